"""Any folder of label folders, served as a shop: a category a folder, a product a file, the bytes untouched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shards.errors import ConfigError

__all__ = ["FolderCatalogue", "FolderCategory", "FolderPhotos", "FolderProduct", "folder_catalogue"]


@dataclass(frozen=True, slots=True)
class FolderCategory:
    """A label folder."""

    slug: str
    name: str
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class FolderProduct:
    """A file; its name says where it lies, so that every file can be traced in the drop report."""

    id: int
    name: str
    price_cents: int
    categories: tuple[str, ...]
    maker: str = ""
    photo: bool = True


@dataclass(frozen=True, slots=True)
class FolderCatalogue:
    """The folder as a shop's stock."""

    categories: tuple[FolderCategory, ...]
    products: tuple[FolderProduct, ...]


class FolderPhotos(Mapping[int, bytes]):
    """The files' bytes by product number, read when asked for: the page cache is the cache."""

    def __init__(self, paths: Mapping[int, Path]) -> None:
        self._paths = paths

    def __getitem__(self, id: int) -> bytes:
        return self._paths[id].read_bytes()

    def __iter__(self) -> Iterator[int]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def folder_catalogue(folder: Path) -> tuple[FolderCatalogue, FolderPhotos]:
    """Every file below every folder in `folder`, in the order of their names.

    Raises:
        ConfigError: `folder` holds no label folders with files in them.
    """
    if not folder.is_dir():
        raise ConfigError(str(folder), "", "no such folder; expected one folder of images a label")
    categories: list[FolderCategory] = []
    products: list[FolderProduct] = []
    paths: dict[int, Path] = {}
    for label in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in label.rglob("*") if path.is_file())
        if not files:
            continue
        slug = re.sub(r"[^a-z0-9]+", "-", label.name.lower()).strip("-")
        if not slug or any(slug == known.slug for known in categories):
            slug = f"{slug}-{len(categories)}"
        categories.append(FolderCategory(slug, label.name))
        for path in files:
            number = len(products) + 1
            price = 4900 + 100 * (number * 7919 % 2000)  # a shop shows prices; nothing reads them
            products.append(FolderProduct(number, path.relative_to(folder).as_posix(), price, (slug,)))
            paths[number] = path
    if not products:
        raise ConfigError(str(folder), "", "no files in label folders; expected one folder of images a label")
    return FolderCatalogue(tuple(categories), tuple(products)), FolderPhotos(paths)
