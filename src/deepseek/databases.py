"""Which driver of SQLAlchemy is meant where the URL of a database names none."""

DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql"}
"""By dialect; databases that are not here have the driver that SQLAlchemy takes by itself."""
_DIALECTS = {"postgres": "postgresql", "mariadb": "mysql"}


def dialect_of(scheme: str) -> str:
    """Return what a database speaks, by the scheme of its URL.

    Args:
        scheme: What stands before `://`, without a driver.

    Example:
        >>> dialect_of("postgres"), dialect_of("mariadb"), dialect_of("sqlite")
        ('postgresql', 'mysql', 'sqlite')
    """
    return _DIALECTS.get(scheme, scheme)


def with_driver(scheme: str) -> str:
    """Return a scheme that names its driver.

    Args:
        scheme: What stands before `://`; one that names a driver already stays as it is.

    Example:
        >>> with_driver("postgres"), with_driver("mysql+mysqldb"), with_driver("sqlite")
        ('postgresql+psycopg', 'mysql+mysqldb', 'sqlite')
    """
    dialect = dialect_of(scheme)
    return f"{dialect}+{DRIVERS[dialect]}" if dialect in DRIVERS else scheme
