"""``llmcalc index``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import list_output_options, respond


@click.command("index", short_help="Vector stores: memory and disk of embeddings.")
@click.option("--vectors", metavar="N", help="Vectors: 1m, 250k (decimal).")
@click.option("--dim", metavar="N", help="Components of a vector: 768, 1536.")
@click.option(
    "--index",
    metavar="NAME",
    multiple=True,
    help="flat, fp16, sq8, pq, hnsw, hnsw-sq8, ivf-flat, ivf-sq8, ivf-pq, or faiss's own text such as "
    "IVF4096,PQ64; of pgvector none, hnsw, ivfflat; several.  [all]",
)
@click.option("--documents", metavar="N", help="Documents, instead of --vectors.")
@click.option("--chunks", metavar="N", help="Chunks of a document.  [1]")
@click.option("--document-tokens", metavar="N", help="Tokens of a document, instead of --chunks.")
@click.option("--chunk-tokens", metavar="N", help="Tokens of a chunk.")
@click.option("--overlap", metavar="N", help="Tokens that neighbouring chunks share.  [0]")
@click.option("--store", metavar="NAME", help="faiss or pgvector.  [faiss]")
@click.option("--dtype", metavar="DTYPE", help="Of pgvector: fp32, fp16 (halfvec), binary (bit).  [fp32]")
@click.option("--metric", metavar="NAME", help="l2, ip or cosine.  [l2]")
@click.option("--m", metavar="N", help="Links of an HNSW graph.  [32; pgvector 16]")
@click.option("--lists", metavar="N", help="Lists of an inverted file.  [the store's guide]")
@click.option("--pq", metavar="N", help="Parts of a product quantizer.  [4 components each]")
@click.option("--pq-bits", metavar="N", help="Bits of each part.  [8]")
@click.option("--ids", is_flag=True, help="faiss keeps ids of your own (IDMap).")
@click.option("--text-bytes", metavar="SIZE", help="Text kept beside each vector.  [0]")
@click.option("--metadata-bytes", metavar="SIZE", help="Metadata kept beside each vector.  [0]")
@click.option("--documents-in", metavar="WHERE", help="disk or memory, for faiss.  [disk]")
@click.option("--memory", metavar="SIZE", help="How many vectors fit into this: 64GiB.")
@list_output_options
@click.option("--explain", is_flag=True, help="Add formula, values, validity and source of each line.")
@click.option("--plot", metavar="FILE", help="Draw a picture (needs the plot extra).")
@click.option("--python", is_flag=True, help="Print the call of the Python API instead.")
def command(**options: Any) -> int:
    """Memory and disk of embeddings for retrieval, byte by byte as faiss and pgvector lay them out.

    Without --index all usual ones are put beside each other.

    \b
    llmcalc index --vectors 1m --dim 768
    llmcalc index --vectors 10m --dim 1024 --index IVF16384,PQ64
    llmcalc index --documents 200k --document-tokens 3k --chunk-tokens 512 --dim 1536 --index hnsw
    llmcalc index --vectors 1m --dim 1536 --store pgvector --text-bytes 2kB
    """
    from llmcalc.api.index import index

    options["index"] = list(options["index"]) or None
    if options["index"] is not None and len(options["index"]) == 1:
        options["index"] = options["index"][0]
    return respond(index, {**options, "units": "gib"})
