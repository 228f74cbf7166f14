"use strict";
// The code of a one-time link stands behind # in the address, where no server and no log sees it.
const named = (id) => document.getElementById(id);
const code = new URLSearchParams(location.hash.slice(1)).get("code");
if (code) {
  history.replaceState(null, "", location.pathname + location.search);
  named("code").value = code;
}
if (named("code").value) {
  named("with-code").hidden = true;
  named("what").textContent = "This link works once. Choose a name, and a password of at least 12 characters.";
  named("password").autocomplete = "new-password";
  named("password").minLength = 12;
  named("send").textContent = "Make the account";
}
