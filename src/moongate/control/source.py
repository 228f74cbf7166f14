"""What is to be served, and how it is read: at the start, and again whenever it has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import Documents, load
from moongate.control.line import Line, read_line
from moongate.control.programs import judge_programs
from moongate.control.published import NAME, read_published, with_published
from moongate.control.sealing import Keys
from moongate.errors import Complaint, ConfigError
from moongate.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """Files, or the `line` that names one server (then there are no files), and what the command line says beside
    them.
    """

    paths: tuple[Path, ...]
    options: CompileOptions
    environ: Mapping[str, str]
    line: Line | None = None
    data_dir: Path | None = None

    @property
    def published(self) -> Path | None:
        """What the store has published, also before it is there."""
        return None if self.data_dir is None or self.line is not None else self.data_dir / NAME

    def read(self) -> Snapshot:
        """With warnings about programs that are not there. Raises ConfigError, StartError."""
        if self.line is not None:
            snapshot, documents = read_line(self.line, self.environ, self.options)
        else:
            documents = self._with_store(load(self.paths, self.environ))
            snapshot = compile_documents(documents, self.options)
        return judge_programs(snapshot, documents, self.environ)

    def _with_store(self, documents: Documents) -> Documents:
        if self.data_dir is None or self.published is None or not self.published.exists():
            return documents
        try:
            keys = Keys.load(self.data_dir, self.environ)
            published = read_published(self.data_dir, keys.current, *keys.old)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError((Complaint(str(self.published), f"cannot be read: {reason}"),)) from None
        return documents if published is None else with_published(documents, published)
