"""The tests, as a package: folders may have files of the same name, and share helpers."""
