"""Parameter counts against what transformers' classes hold, and against published totals."""

import hashlib
import json
from pathlib import Path

import pytest

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.model import families
from llmcalc.model.inventory import size
from llmcalc.model.readers.catalog import read_entry
from llmcalc.model.readers.config import read_dict

ORACLE = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "parameter_oracle.jsonl").read_text().splitlines()
]
LETTERS = {
    "full": "F", "latent": "F", "cross": "F", "window": "S", "chunk": "S", "compressed": "S", "tail": "S",
    "recurrent": "L", "conv": "L", "indexer": "I",
}  # fmt: skip


def names(rows):
    return [row["hf"] for row in rows]


@pytest.mark.parametrize("row", ORACLE, ids=names(ORACLE))
def test_oracle(row):
    model = llmcalc.model(row["hf"])
    assert model.params == row["total"]
    assert model.routed_params == row["routed"]
    assert row["embedding"] in (0, None, model.by_role().get("embedding"))
    assert model.active_params == (row["active"] or row["total"])


NAMED = [row for row in ORACLE if "names_sha256" in row and row["total"] < 4e9]


@pytest.mark.parametrize("row", NAMED, ids=names(NAMED))
def test_names_and_shapes(row):
    lines = [f"{t.name}:{list(t.shape)}" for t in llmcalc.model(row["hf"]).tensors if t.tag == "main"]
    assert hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() == row["names_sha256"]


@pytest.mark.parametrize(
    ("name", "total", "tensors"),
    [
        # Published as 2.09B; names and shapes of the classes in the model's own repository.
        ("janus-1.3b", 2_089_232_011, {
            "vision_model.vision_tower.blocks.23.attn.qkv.weight": (3072, 1024),
            "gen_vision_model.quantize.embedding.weight": (16384, 8),
            "gen_vision_model.decoder.conv_blocks.0.res.2.conv1.weight": (512, 512, 3, 3),
        }),
        ("deepseek-vl2-tiny", 3_370_501_440, {"vision.blocks.0.attn.qkv.weight": (3456, 1152)}),
        # Mistral4ForCausalLM built on the meta device, its Pixtral tower and its patch merger beside.
        ("mistral-small-4-119b-2603", 118_972_826_624 + 403_305_472 + 25_166_848, {
            "vision_tower.patch_conv.weight": (1024, 3, 14, 14),
        }),
    ],
)  # fmt: skip
def test_multimodal_names(name, total, tensors):
    model = llmcalc.model(name)
    assert model.params == total
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    assert {tensor: tuple(shapes[tensor]) for tensor in tensors} == tensors


KINDS = [row for row in ORACLE if "layers" in row]


@pytest.mark.parametrize("row", KINDS, ids=names(KINDS))
def test_layer_kinds(row):
    kinds = [set() for _ in row["layers"]]
    windows = set()
    for layer, cache in llmcalc.model(row["hf"]).caches:
        kinds[layer].add(LETTERS[cache.kind])
        if cache.kind in ("window", "chunk"):
            windows.add(cache.positions)
    both = {frozenset("FL"): "B", frozenset("FI"): "I", frozenset("SI"): "I", frozenset(): "-"}
    assert "".join(both.get(frozenset(kind), "".join(kind)) for kind in kinds) == row["layers"]
    assert not windows or row["window"] is None or windows <= {row["window"]}


def test_gpt3_published_matrices():
    roles = llmcalc.model("gpt-3").by_role()
    assert roles == {
        "embedding": 617_558_016,
        "query": 14_495_514_624,
        "key": 14_495_514_624,
        "value": 14_495_514_624,
        "output": 14_495_514_624,
        "up": 57_982_058_496,
        "down": 57_982_058_496,
        "unembedding": 617_558_016,
    }
    assert llmcalc.model("gpt-3").params == 175_181_291_520


@pytest.mark.parametrize(
    ("name", "stored"),
    # DeepSeek-R1's repository holds 684,489,845,504 with its prediction module and router biases.
    [("deepseek-r1", 684_489_845_504), ("llama-3.1-8b", 8_030_261_248)],
)
def test_stored(name, stored):
    assert llmcalc.model(name).stored_params == stored


def test_every_catalog_entry_reads_without_unknown_keys():
    catalog = Catalog.shipped()
    entries = catalog.entries("models")
    assert len(entries) >= 150
    for entry in entries:
        inventory = read_entry(entry, catalog, check_keys=True)
        assert inventory.params > 0
        assert inventory.active_params <= inventory.params
        assert inventory.params <= inventory.stored_params or inventory.quantization is not None


def test_every_family_says_what_it_is():
    for name in families.known():
        family = families.load(name, "test")
        assert family.__doc__.endswith((".", ".\n")), name
        assert callable(getattr(family, "block", None) or family.describe)


NEW_FAMILY = """\
'''Newcomer: Llama's layers with a norm after attention.'''

from llmcalc.model.configuration import Config
from llmcalc.model.families._blocks import dense, grouped, pre_norm
from llmcalc.model.layers import Block, norm


def block(c: Config, layer: int) -> Block:
    return pre_norm(c, grouped(c) + norm("post_attn_norm", c.hidden_size), dense(c))
"""


def test_a_new_family_is_one_file(tmp_path, monkeypatch):
    """Written into a folder of its own, and known at once by its model_type."""
    (tmp_path / "newcomer_moe.py").write_text(NEW_FAMILY, encoding="utf-8")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    config = {**CLASSIFIER, "model_type": "newcomer-moe", "architectures": ["NewcomerForCausalLM"]}
    plain = {**CLASSIFIER, "architectures": ["LlamaForCausalLM"]}
    assert "newcomer_moe" in families.known()
    assert llmcalc.model(config).params == llmcalc.model(plain).params + 2 * 64


def test_groups_cover_every_layer_once():
    for name in ("gemma-3-27b", "deepseek-v3", "qwen3-next-80b", "gpt-oss-20b", "falcon-7b"):
        model = llmcalc.model(name)
        layers = [i for g in model.groups if g.component == "text" and g.place == "layer" for i in g.layers]
        assert sorted(layers) == list(range(model.layers))


def test_ops_name_their_tensors_and_widths():
    """Every matrix of a layer is multiplied, with its own widths, by exactly one op."""
    for name in ("llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "qwen3-next-80b", "mamba2-1.3b", "gpt2"):
        for group in llmcalc.model(name).groups:
            if group.place != "layer" or group.component != "text":
                continue
            linear = {op.role: op for op in group.ops if op.kind == "linear"}
            matrices = {
                t.role: t
                for t in group.tensors
                if t.part == "weight" and len(t.shape) > 1 and t.role != "conv"
            }
            assert set(linear) == set(matrices)
            for role, op in linear.items():
                assert size(op.out) * size(op.inp) * op.stored == matrices[role].numel
                assert 1 <= op.active <= op.stored


CLASSIFIER = {
    "model_type": "llama", "architectures": ["LlamaForSequenceClassification"], "hidden_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
    "vocab_size": 128, "id2label": {"0": "LABEL_0"}, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "head"),
    [("LlamaForSequenceClassification", 64), ("LlamaModel", 0), ("LlamaForCausalLM", 64 * 128)],
)
def test_the_architecture_decides_the_head(architecture, head):
    config = {**CLASSIFIER, "architectures": [architecture]}
    bare = read_dict({**config, "architectures": ["LlamaModel"]}, Catalog.shipped()).params
    assert read_dict(config, Catalog.shipped()).params - bare == head


def test_omitted_keys_take_the_class_defaults():
    """Gemma-3-4B's own file omits heads, KV heads, head width, vocabulary and the layer pattern."""
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "mm_tokens_per_image": 256,
        "boi_token_index": 255999, "eoi_token_index": 256000, "image_token_index": 262144,
        "initializer_range": 0.02, "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0",
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "sliding_window": 1024,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "vision_config": {
            "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "num_attention_heads": 16,
            "num_hidden_layers": 27, "patch_size": 14, "model_type": "siglip_vision_model",
            "vision_use_head": False,
        },
    }  # fmt: skip
    model = llmcalc.model(config)
    assert model.params == 4_300_079_472  # the published total
    assert model.by_role()["vision"] + model.by_role()["projector"] == 419_816_304
    assert {"vocab_size", "num_attention_heads", "num_key_value_heads", "head_dim"} <= set(model.defaulted)


def test_a_count_is_one_opaque_group():
    model = llmcalc.model("13b")
    assert (model.params, model.source, model.layers) == (13_000_000_000, "count", 0)
    assert len(model.groups) == 1
    assert model.caches == []
    assert model.tensors == []


GGUF_ARCHITECTURES = {
    "llama-3.1-8b": "LLAMA", "mixtral-8x7b": "LLAMA", "qwen2.5-7b": "QWEN2", "qwen3-8b": "QWEN3",
    "qwen3-30b-a3b": "QWEN3MOE", "qwen3-next-80b": "QWEN3NEXT", "gemma-2-9b": "GEMMA2",
    "gemma-3-1b": "GEMMA3", "phi-2": "PHI2", "phi-4": "PHI3", "gpt2": "GPT2", "pythia-6.9b": "GPTNEOX",
    "olmo-2-1124-7b": "OLMO2", "deepseek-v2-lite": "DEEPSEEK2", "deepseek-v3": "DEEPSEEK2",
    "gpt-oss-20b": "GPT_OSS", "mamba2-1.3b": "MAMBA2", "falcon-7b": "FALCON", "falcon-40b": "FALCON",
    "glm-4.5-air": "GLM4_MOE",
}  # fmt: skip


@pytest.mark.parametrize(("name", "architecture"), GGUF_ARCHITECTURES.items(), ids=list(GGUF_ARCHITECTURES))
def test_gguf_names_are_llama_cpps(name, architecture):
    constants = pytest.importorskip("gguf.constants")
    known = constants.MODEL_TENSORS[getattr(constants.MODEL_ARCH, architecture)]
    words = {constants.TENSOR_NAMES[tensor].replace("blk.{bid}.", "") for tensor in known}
    for tensor in llmcalc.model(name).tensors:
        # A converter splits fused experts in two; all else keeps its tensors.
        if tensor.tag != "mtp" and tensor.role != "expert_gate_up":
            stem = (
                tensor.gguf.removeprefix(f"blk.{tensor.layer}.").removesuffix(".weight").removesuffix(".bias")
            )
            assert stem in words, tensor.name
