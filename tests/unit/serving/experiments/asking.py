"""An application with an experiment, asked without a socket."""

import asyncio
import contextlib
import time

import httpx

from deepseek import serving
from deepseek.serving.state import State

ADMIN = {"authorization": "Bearer an-admin-key-of-sixteen"}
USER = {"authorization": "Bearer a-key-of-sixteen-or-more"}
ROW = {"x": 1.5, "z": 0.0}
PREDICT, EXPERIMENT = "/v1/models/shop/predict", "/admin/models/shop/experiment"


class Served:
    """An application and what it wrote; it is asked within one event loop, as a server would."""

    def __init__(self, app, folder):
        self.app, self.folder = app, folder

    async def ask(self, method, path, body=None, headers=ADMIN, **arguments):
        return await self.client.request(method, path, json=body, headers=headers, **arguments)

    async def post(self, path, body, headers=ADMIN):
        return await self.ask("POST", path, body, headers)

    def state(self):
        return State(self.folder).read()["shop"]

    def arm(self, number=0):
        return self.app.exchange.running["shop"].arms[number]

    def counts(self, name):
        lines = self.app.metrics.text().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)}


@contextlib.asynccontextmanager
async def served(run, folder, **settings):
    app = serving.make_app(f"shop={run}", settings={"state": str(folder), **settings})
    made = Served(app, folder)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=60) as client:
        made.client = client
        yield made
    await app.close()


def go(work):
    asyncio.run(asyncio.wait_for(work, 120))


async def begin(one, arms, **settings):
    made = await one.post(EXPERIMENT, {"arms": {name: str(path) for name, path in arms.items()}, **settings})
    assert made.status_code == 200, made.text
    return made.json()


async def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        await asyncio.sleep(0.01)


async def keep(work, found):
    found += await work()
