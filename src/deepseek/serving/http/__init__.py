"""The parts of HTTP that all servers share: requests and answers over plain ASGI, forms, keys, problem documents, and limits of a head."""
