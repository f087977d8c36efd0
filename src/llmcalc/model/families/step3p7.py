"""Step 3.7, multimodal: the text model, a vision tower with scaled branches, and two halving convolutions."""

from fractions import Fraction

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import step3p5
from llmcalc.model.families._multimodal import nested
from llmcalc.model.families._multimodal import text as text_model
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm, patches, tower_layer
from llmcalc.model.layers.encoders import convolution, linear, table

ROOT = "model.vision_model."
NAMES = {
    "patch": "embeddings.patch_embedding",
    "position": "embeddings.position_embedding",
    "first_norm": "pre_layernorm",
    "attn_norm": "layernorm_before",
    "output": "self_attn.out_proj",
    "ffn_norm": "layernorm_after",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "attn_scale": "lambda_1",
    "ffn_scale": "lambda_2",
    "downsample_1": "downsampler1",
    "downsample_2": "downsampler2",
}
RENAMES = {"hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads"}
RATIO, KERNEL = Fraction(8960, 1536), 3


def ffn(v: Config) -> int:
    value = v.lookup("mlp_ratio")
    ratio = RATIO if value in (MISSING, None) else value
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float, Fraction)) or not 0 < ratio < 100:
        raise ConfigError(f"{v.label}: mlp_ratio is {value!r}.", "It is a number, such as 5.8333.")
    return int(v.hidden_size * ratio)


def tower_block(v: Config, layer: int) -> Block:
    width = v.hidden_size
    made = tower_layer(width, v.num_attention_heads, ffn(v))
    return made + table("attn_scale", width, part="") + table("ffn_scale", width, part="")


def tower(v: Config) -> list[Group]:
    v.read |= {"intermediate_size", "max_position_embeddings", "layer_scale_init_value", "ls_init_value"}
    width, side = v.hidden_size, v.image_size // v.patch_size
    before = patches(width, v.num_channels, v.patch_size, side * side, bias=False)
    before += norm("first_norm", width, True)
    after = convolution("downsample_1", 2 * width, width, KERNEL, KERNEL)
    after += convolution("downsample_2", 4 * width, 2 * width, KERNEL, KERNEL)
    return [
        families.outside("vision", "embedding", before, ROOT, NAMES),
        *families.layers(tower_block, v, v.num_hidden_layers, "vision", ROOT + "layers.{layer}.", NAMES),
        families.outside("vision", "embedding", after, ROOT, NAMES),
    ]


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = nested(c, "text_config", "step3p5", catalog)
    groups = [*text_model(step3p5, text, c), *families.prediction(step3p5, text)]
    if not isinstance(c.raw.get("vision_config"), dict):
        return groups
    defaults = (catalog.lookup("class_defaults", "step3p5_vision") or {}).get("defaults") or {}
    vision = c.part("vision_config", {RENAMES.get(key, key): one for key, one in defaults.items()}, RENAMES)
    bias = c.flag("projector_bias")
    projector = linear("projection", text.hidden_size, 4 * vision.hidden_size, bias=bias)
    names = {"projection": "model.multi_modal_projector"}
    return [*groups, *tower(vision), families.outside("projector", "embedding", projector, "", names)]
