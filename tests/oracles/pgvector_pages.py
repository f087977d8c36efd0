"""Pages that PostgreSQL gives tables and indexes of pgvector: writes tests/data/pgvector_pages.csv.

    python tests/oracles/pgvector_pages.py FOLDER

Needs the package pgserver, which holds PostgreSQL and pgvector; the database is made in FOLDER. Vectors are
random, so levels of graphs and lengths of lists are too.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pgserver

OUT = Path(__file__).parent.parent / "data" / "pgvector_pages.csv"
CASES = [
    (8, 3000, 16, 10), (16, 20000, 16, 100), (30, 5000, 16, 50), (64, 2000, 16, 20), (100, 5000, 8, 50),
    (128, 4000, 32, 40), (256, 3000, 16, 30), (384, 2000, 16, 20), (384, 1000, 64, 20), (500, 800, 16, 10),
    (505, 800, 16, 10), (768, 1000, 16, 20), (1024, 600, 16, 10), (1536, 500, 16, 20), (2000, 300, 16, 5),
    (300, 700, 100, 5), (1536, 200, 100, 5),
]  # fmt: skip
"""Components, vectors, m of hnsw, lists of ivfflat."""

QUESTION = """
select (select extversion from pg_extension where extname = 'vector'),
       current_setting('server_version'),
       pg_relation_size('t') / 8192, pg_relation_size(reltoastrelid) / 8192,
       pg_relation_size((select indexrelid from pg_index where indrelid = reltoastrelid)) / 8192,
       pg_relation_size('t_pkey') / 8192, pg_relation_size('h') / 8192, pg_relation_size('i') / 8192
from pg_class where relname = 't';
"""


def main(folder: str) -> None:
    server = pgserver.get_server(folder)
    server.psql("create extension if not exists vector;")
    head = ["pgvector", "postgresql", "d", "n", "m", "lists", "table", "toast", "toast_index", "primary_key",
            "hnsw", "ivfflat"]  # fmt: skip
    with OUT.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        for d, n, m, lists in CASES:
            server.psql(f"""
                drop table if exists t;
                create table t (id bigserial primary key, v vector({d}));
                insert into t (v) select array_agg(random()::real)::vector
                    from generate_series(1, {n}) i, generate_series(1, {d}) j group by i;
                set maintenance_work_mem = '512MB';
                create index h on t using hnsw (v vector_l2_ops) with (m = {m}, ef_construction = {2 * m});
                create index i on t using ivfflat (v vector_l2_ops) with (lists = {lists});
            """)
            cells = [cell.strip() for cell in server.psql(QUESTION).splitlines()[2].split("|")]
            writer.writerow([*cells[:2], d, n, m, lists, *cells[2:]])
            stream.flush()
            print(d, n, cells)


if __name__ == "__main__":
    main(sys.argv[1])
