"""A server of ingest without a socket, and bodies to send to it."""

import asyncio
import io

import httpx
import numpy as np
import pyarrow as pa
from PIL import Image

from deepseek.data.sources import open_source
from deepseek.serving.intake import make_app

JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}
FLOW = {"content-type": "application/flowfile-v3"}


def png(shade=0):
    file = io.BytesIO()
    Image.fromarray(np.full((6, 6, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


class Server:
    """The application over a folder; requests are sent one after the other, and parts are written when it closes."""

    def __init__(self, folder, **options):
        self.folder, self.options = folder, options

    def post(self, *requests):
        """Post contents, each `(topic, body, headers)`; return the responses, once all is in parts."""

        async def main():
            app = make_app(self.folder, **self.options)
            try:
                async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://in") as client:
                    return [await client.post(f"/v1/ingest/{topic}", content=body, headers=headers) for topic, body, headers in requests]
            finally:
                await app.close()

        return asyncio.run(main())

    def one(self, topic, body, headers):
        (response,) = self.post((topic, body, headers))
        return response

    def get(self, path):
        async def main():
            app = make_app(self.folder, **self.options)
            try:
                async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://in") as client:
                    return await client.get(path)
            finally:
                await app.close()

        return asyncio.run(main())

    def source(self, *topics, **more):
        return open_source({"type": "ingest", "path": str(self.folder), **({"topics": list(topics)} if topics else {}), **more})

    def rows(self, *topics, **more):
        """Return the rows without the columns that ingest adds."""
        found = [row for batch in self.source(*topics, **more).read() for row in batch.to_pylist()]
        return [{name: value for name, value in row.items() if name not in ("_id", "_at")} for row in found]

    def rejects(self, *topics):
        return [row for batch in self.source(*topics).rejects() for row in batch.to_pylist()]


def stream(table):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
