# SPDX-License-Identifier: Apache-2.0
"""What `dataset_info.json` says about a data set: where its rows are and what their keys are called."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .faults import DataError, Fault, FaultLog
from .jsontext import decode, parse
from .terminal import quote


DATASET_INFO = "dataset_info.json"

LLAMAFACTORY_COLUMNS = (
    *("messages", "system", "tools", "images", "videos", "audios", "chosen", "rejected"),
    *("prompt", "query", "response", "history", "kto_tag"),
)
EXTRA_COLUMNS = (
    *("rejected_images", "prefix", "prefix_l", "weights", "id", "answer", "choices", "provenance"),
    *("kind", "pair"),
)
DEFAULT_COLUMNS = {"messages": "conversations", "prompt": "instruction", "query": "input", "response": "output"}
DEFAULT_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
NEEDED_TAGS = ("role_tag", "content_tag", "user_tag", "assistant_tag")
FORMATTINGS = ("alpaca", "sharegpt")

_HUB_KEYS = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_OWN_KEYS = ("file_name", "formatting", "ranking", "columns", "tags", "prefix_in_response")
_OTHER_KEYS = (*_HUB_KEYS, "subset", "split", "folder", "num_samples")

PrefixSetting = Literal["auto", "true", "false"]


@dataclass(frozen=True)
class DatasetSchema:
    """One entry of `dataset_info.json`.

    Attributes:
        name: The name of the data set.
        file_name: File or folder below the data set folder; None if the rows come from a hub, a script or the cloud.
        formatting: `sharegpt`, `alpaca`, or the name of another registered format.
        ranking: Whether rows hold a chosen and a rejected answer.
        columns: Column name to the key in the rows. Columns that a row cannot have are left out. Our own columns
            (`EXTRA_COLUMNS`) are in it under their own name unless the entry says otherwise, so that published files
            need no declaration.
        tags: Tag name to the word in the rows; tags that are switched off are left out.
        prefix_in_response: Whether answers begin with the text of the column `prefix`.
        extra: All other keys of the entry, such as `num_samples`.
        declared: The columns that the entry names itself.
        info_file: The file that holds the entry.
    """

    name: str
    file_name: str | None
    formatting: str = "alpaca"
    ranking: bool = False
    columns: Mapping[str, str] = field(default_factory=lambda: _add_extra_columns(DEFAULT_COLUMNS))
    tags: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_TAGS))
    prefix_in_response: PrefixSetting = "auto"
    extra: Mapping[str, Any] = field(default_factory=dict)
    declared: frozenset[str] = frozenset()
    info_file: str = DATASET_INFO

    @classmethod
    def from_info(cls, name: str, entry: Any, file: str = DATASET_INFO) -> "DatasetSchema":
        """Reads one entry of `dataset_info.json` the way LLaMA-Factory does.

        As there, an entry with `columns` has only the columns it names, and the same holds for `tags`.

        Raises:
            DataError: The entry has wrong types, misspelt names or no source of rows.
        """
        log = FaultLog(file)
        if not isinstance(entry, Mapping):
            log.error(name, "wrong-type", f"The entry is {kind(entry)}.", "Write an object: {...}.")
            raise DataError(log.faults)
        _check_keys(entry, name, log)
        named_columns = _read_names(entry, name, "columns", (*LLAMAFACTORY_COLUMNS, *EXTRA_COLUMNS), log)
        named_tags = _read_names(entry, name, "tags", tuple(DEFAULT_TAGS), log)
        file_name = _read_source(entry, name, log)
        formatting = schema_format(_read_value(entry, name, "formatting", "alpaca", str, log))
        ranking = _read_value(entry, name, "ranking", False, bool, log)
        prefix_in_response = _read_prefix_setting(entry, name, log)
        if log.failed:
            raise DataError(log.faults)
        return cls(
            name=name,
            file_name=file_name,
            formatting=formatting,
            ranking=ranking,
            columns=_add_extra_columns(DEFAULT_COLUMNS if named_columns is None else named_columns),
            tags=_named(DEFAULT_TAGS if named_tags is None else named_tags),
            prefix_in_response=prefix_in_response,
            extra={key: value for key, value in entry.items() if key not in _OWN_KEYS},
            declared=frozenset(_named(named_columns or {})),
            info_file=file,
        )

    def key(self, column: str) -> str:
        """Returns the row key of `column`, or the column's own name where the data set has no such column."""
        return self.columns.get(column, column)

    def faults(self) -> list[Fault]:
        """Says why no row of this data set could be read as a preference row; an empty list if they can."""
        log = FaultLog(self.info_file)
        if self.formatting not in FORMATTINGS:
            fix = (
                "Use `sharegpt` or `alpaca`. Chat rows with `role` and `content` are `sharegpt` with the tags "
                '{"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", '
                '"system_tag": "system"}.'
            )
            message = f"Rows of the format `{quote(self.formatting)}` cannot be checked here."
            log.error(f"{self.name}.formatting", "unsupported-formatting", message, fix)
        if not self.ranking:
            message = "The data set is not marked as one that holds chosen and rejected answers."
            log.error(f"{self.name}.ranking", "not-ranking", message, 'Add "ranking": true.')
        prompt_column = ("prompt",) if self.formatting == "alpaca" else ("messages",)
        for column in (*prompt_column, "chosen", "rejected"):
            if column not in self.columns:
                message = f"`columns` does not say which key of a row is `{column}`."
                fix = f'Add "{column}": "<key in your rows>" under `columns`.'
                log.error(f"{self.name}.columns", "missing-column", message, fix)
        for tag in NEEDED_TAGS if self.formatting == "sharegpt" else ():
            if tag not in self.tags:
                message = f"`tags` does not name `{tag}`, and an entry with `tags` has only the tags it names."
                fix = f'Add "{tag}": "{DEFAULT_TAGS[tag]}" (or the word in your rows) under `tags`.'
                log.error(f"{self.name}.tags", "missing-tag", message, fix)
        return log.faults


def schema_format(formatting: str) -> str:
    """The format of the rows: `mmself`, which lets stock stages read our files, is ShareGPT to us."""
    return "sharegpt" if formatting == "mmself" else formatting


def schema_from_attr(name: str, attr: Any) -> DatasetSchema:
    """The schema of a data set as far as LLaMA-Factory knows it: without what the entry says about our own columns.

    Args:
        name: of the data set.
        attr: LLaMA-Factory's `DatasetAttr`.
    """
    columns = {column: getattr(attr, column) for column in LLAMAFACTORY_COLUMNS}
    return DatasetSchema(
        name=name,
        file_name=None,
        formatting=schema_format(attr.formatting),
        ranking=attr.ranking,
        columns=_add_extra_columns({column: key for column, key in columns.items() if key}),
        tags={tag: getattr(attr, tag) for tag in DEFAULT_TAGS if getattr(attr, tag)},
    )


def read_dataset_info(dataset_dir: Path, names: Sequence[str] | None = None) -> dict[str, DatasetSchema]:
    """Reads `dataset_info.json`.

    Args:
        dataset_dir: The folder that holds it.
        names: The data sets to read; None reads all. Entries that are not asked for may be broken.

    Returns:
        Name to schema, in the order of `names`.

    Raises:
        DataError: The file is missing or not JSON (with line and column), a name is unknown, or an entry is wrong.
    """
    path = Path(dataset_dir) / DATASET_INFO
    file = str(path)
    if not path.is_file():
        message = f"There is no {DATASET_INFO} in `{dataset_dir}`."
        fix = "Set `dataset_dir` to the folder that holds it."
        raise DataError([Fault(file, 0, "", "file-missing", message, fix)])
    info = parse(decode(path.read_bytes(), file), file)
    if not isinstance(info, dict):
        fix = 'Write an object that maps names to data sets: {"my_data": {...}}.'
        raise DataError([Fault(file, 0, "", "wrong-type", f"The file holds {kind(info)}.", fix)])
    names = list(info) if names is None else list(names)
    faults: list[Fault] = []
    schemas: dict[str, DatasetSchema] = {}
    for name in names:
        if name not in info:
            fix = suggest(name, info, "Use one of the data sets in this file")
            faults.append(Fault(file, 0, "", "unknown-dataset", f"There is no data set `{quote(name)}`.", fix))
            continue
        try:
            schemas[name] = DatasetSchema.from_info(name, info[name], file)
        except DataError as err:
            faults.extend(err.faults)
    if faults:
        raise DataError(faults)
    return schemas


def find_schema(dataset_dir: Any, name: str) -> DatasetSchema | None:
    """The entry of a data set, or None where `dataset_dir` is no folder with entries: `ONLINE`, `REMOTE:<repository>`.

    Raises:
        DataError: See `read_dataset_info`.
    """
    if not isinstance(dataset_dir, str) or not Path(dataset_dir, DATASET_INFO).is_file():
        return None
    return read_dataset_info(Path(dataset_dir), [name])[name]


def suggest(word: str, known: Iterable[str], title: str) -> str:
    """Returns `Did you mean ...?` if `word` is close to a known one, else the known words."""
    known = list(known)
    if close := difflib.get_close_matches(word, known, n=1):
        return f"Did you mean `{close[0]}`?"
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return f"{title}: {shown or 'none'}."


def kind(value: Any) -> str:
    """Names the JSON type of `value` with an article and a glimpse of it, such as "a number (3)"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"a boolean ({json.dumps(value)})"
    if isinstance(value, (int, float)):
        return f"a number ({quote(_number(value), 24)})"
    if isinstance(value, str):
        return f'a string ("{quote(value, 32)}")'
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if isinstance(value, Mapping):
        return "an object" if value else "an empty object"
    return f"of the type {type(value).__name__}"


def _number(value: int | float) -> str:
    try:
        return str(value)
    except ValueError:
        return "a very large number"


def _check_keys(entry: Mapping[str, Any], name: str, log: FaultLog) -> None:
    known = (*_OWN_KEYS, *_OTHER_KEYS)
    for key in entry:
        close = [] if key in known else difflib.get_close_matches(str(key), known, n=1, cutoff=0.7)
        if close:
            message = f"`{quote(key)}` is no key of an entry."
            log.error(f"{name}.{quote(key)}", "unknown-key", message, f"Did you mean `{close[0]}`?")


def _read_names(
    entry: Mapping[str, Any], name: str, section: str, known: Sequence[str], log: FaultLog
) -> dict[str, str | None] | None:
    if section not in entry:
        return None
    values = entry[section]
    noun = section[:-1]
    if not isinstance(values, Mapping):
        fix = f"Write an object that maps each {noun} to the word in your rows."
        log.error(f"{name}.{section}", "wrong-type", f"`{section}` is {kind(values)}.", fix)
        return None
    names: dict[str, str | None] = {}
    for key, value in values.items():
        if key not in known:
            fix = suggest(str(key), known, f"Use one of these {section}")
            log.error(f"{name}.{section}", f"unknown-{noun}", f"There is no {noun} `{quote(str(key))}`.", fix)
        elif value is not None and not isinstance(value, str):
            message = f"The {noun} `{key}` is {kind(value)}."
            log.error(f"{name}.{section}.{key}", "wrong-type", message, "Write the word in your rows, a string.")
        else:
            names[key] = value
    return names


def _named(names: Mapping[str, str | None]) -> dict[str, str]:
    return {name: word for name, word in names.items() if word is not None}


def _add_extra_columns(named: Mapping[str, str | None]) -> dict[str, str]:
    columns = _named(named)
    taken = set(columns.values())
    for column in EXTRA_COLUMNS:
        if column not in named and column not in taken:
            columns[column] = column
    return columns


def _read_source(entry: Mapping[str, Any], name: str, log: FaultLog) -> str | None:
    if any(key in entry for key in _HUB_KEYS):
        return None
    if "file_name" not in entry:
        message = "The entry does not say where the rows are."
        log.error(f"{name}.file_name", "missing-field", message, 'Add "file_name": "<your file>.json".')
        return None
    return _read_value(entry, name, "file_name", None, str, log)


def _read_value(entry: Mapping[str, Any], name: str, key: str, default: Any, wanted: type, log: FaultLog) -> Any:
    value = entry.get(key, default)
    if isinstance(value, wanted):
        return value
    fix = "Write true or false." if wanted is bool else "Write a string."
    log.error(f"{name}.{key}", "wrong-type", f"`{key}` is {kind(value)}.", fix)
    return default


def _read_prefix_setting(entry: Mapping[str, Any], name: str, log: FaultLog) -> PrefixSetting:
    value = entry.get("prefix_in_response", "auto")
    word = json.dumps(value) if isinstance(value, bool) else value
    for setting in ("auto", "true", "false"):
        if word == setting:
            return setting
    message = f"`prefix_in_response` is {kind(value)}."
    fix = "Write true (answers hold the prefix), false (they hold only what follows it) or leave it out."
    log.error(f"{name}.prefix_in_response", "bad-setting", message, fix)
    return "auto"
