"""Files on disk: the bundle, the run folder, the stage cache, and hashes."""

from deepseek.artifacts.bundle import FORMAT_VERSION, Bundle, write_bundle
from deepseek.artifacts.cache import CACHE, StageCache
from deepseek.artifacts.files import (
    append_json,
    fresh_folder,
    plain_disk_errors,
    read_json,
    replace_folder,
    sha256_file,
    sha256_json,
    sync_file,
    sync_folder,
    write_json,
    write_text,
)
from deepseek.artifacts.locks import locked
from deepseek.artifacts.run import RunFolder, export_name

__all__ = [
    "CACHE",
    "FORMAT_VERSION",
    "Bundle",
    "RunFolder",
    "StageCache",
    "append_json",
    "export_name",
    "fresh_folder",
    "locked",
    "plain_disk_errors",
    "read_json",
    "replace_folder",
    "sha256_file",
    "sha256_json",
    "sync_file",
    "sync_folder",
    "write_bundle",
    "write_json",
    "write_text",
]
