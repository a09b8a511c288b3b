"""A store in a folder and on a real S3 server."""

from tests.support.object_store import s3, url

__all__ = ["s3", "url"]
