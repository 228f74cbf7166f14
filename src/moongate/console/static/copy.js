"use strict";
// Every page works without this: it adds a button to what may be copied.
const told = document.getElementById("told");
for (const value of navigator.clipboard ? document.querySelectorAll("[data-copy]") : []) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy " + value.dataset.copy);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(value.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(value);
      button.textContent = "Selected";
    }
    told.textContent = button.textContent;
    setTimeout(() => { button.textContent = "Copy"; told.textContent = ""; }, 2000);
  });
  value.after(button);
}
