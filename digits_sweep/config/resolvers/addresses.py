"""Addresses of SQLite files, as SQLAlchemy reads them: Optuna's and MLflow's local stores."""

from importlib.util import find_spec
from urllib.parse import quote


def sqlite_address(path: str) -> str:
    """Return the address of the SQLite file `path`, whatever characters the path has.

    In an address a question mark, for one, would end the path. Also the resolver `${sqlite:path}`.
    """
    plain = f"sqlite:///{path}"
    if find_spec("sqlalchemy") is None:
        # Nothing here can open it.
        return plain
    from sqlalchemy.engine import URL, make_url

    # With the driver's name, because MLflow would make the folders that it finds in an escaped address without it.
    escaped = URL.create("sqlite+pysqlite", database=path).render_as_string()
    # SQLAlchemy 2.0 has no escapes in a path, but SQLite's own addresses have.
    of_sqlite = f"sqlite+pysqlite:///file:{quote(path)}?uri=true"
    return next((each for each in (plain, escaped) if make_url(each).database == path), of_sqlite)
