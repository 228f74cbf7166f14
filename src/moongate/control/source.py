"""What is to be served, and how it is read: at the start, and again whenever it has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from moongate.control.compile import CompileOptions, compile_documents
from moongate.control.files import Documents, load
from moongate.control.line import Line, read_line
from moongate.control.nodes import STORE
from moongate.control.programs import judge_programs
from moongate.control.published import NAME, Published, read_published, unfit, with_published
from moongate.control.sealing import Keys
from moongate.errors import Complaint, ConfigError
from moongate.model.snapshot import Snapshot


class Sealed(ConfigError):
    """What was published is damaged, or was sealed with another key."""


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

    def read(self, *, store: bool = True) -> Snapshot:
        """With warnings about programs that are not there. `store` False: only the files. Raises ConfigError (`Sealed`
        if what was published cannot be opened), StartError.
        """
        if self.line is not None:
            snapshot, documents = read_line(self.line, self.environ, self.options)
        else:
            documents = load(self.paths, self.environ)
            published = self._publication() if store else None
            snapshot, documents = self._compiled(documents, published)
        return judge_programs(snapshot, documents, self.environ)

    def _publication(self) -> Published | None:
        if self.data_dir is None or self.published is None:
            return None
        try:
            self.published.stat()
            keys = Keys.load(self.data_dir, self.environ)
            return read_published(self.data_dir, keys.current, *keys.old)
        except FileNotFoundError:  # and only that: whatever else keeps it from being read must not open the gateway
            return None
        except OSError as error:
            raise ConfigError((Complaint(str(self.published), f"cannot be read: {error.strerror}"),)) from None
        except ValueError as error:
            raise Sealed((Complaint(str(self.published), f"cannot be read: {error}"),)) from None

    def _compiled(self, documents: Documents, published: Published | None) -> tuple[Snapshot, Documents]:
        """An instance of the store that cannot be served is left out: what was taken away must be in force."""
        if published is None:
            return compile_documents(documents, self.options), documents
        merged = with_published(documents, published)
        try:
            return compile_documents(merged, self.options), merged
        except ConfigError as error:
            wrong = unfit(published) if any(complaint.where == STORE for complaint in error.complaints) else {}
            if not wrong:
                raise
        rest = with_published(documents, published, wrong)
        said = tuple(
            Complaint(STORE, f"the instance {name!r} cannot be served and is left out: {complaint.text}")
            for name, complaint in wrong.items()
        )
        rest = replace(rest, warnings=(*rest.warnings, *said))
        return compile_documents(rest, self.options), rest
