"""Databases as sources: PostgreSQL through ADBC, MySQL and MariaDB through connectorx, whatever else SQLAlchemy reaches through it."""
