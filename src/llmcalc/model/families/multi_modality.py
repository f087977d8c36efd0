"""Janus and Janus-Pro: Llama's layers, a SigLIP tower to see, and a quantized image autoencoder to draw.

What each part is stands in a small object of its own: a class's name and its parameters.
"""

from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError
from llmcalc.model import families
from llmcalc.model.configuration import MISSING, Config
from llmcalc.model.families import llama
from llmcalc.model.families._towers import named, timm_siglip_tower
from llmcalc.model.inventory import Group
from llmcalc.model.layers import Block, norm
from llmcalc.model.layers.encoders import convolution, linear, table

BASE, WIDTHS, LATENT = 128, (1, 1, 2, 2, 4), 256
"""VQ-16: channels of the outermost level, their multiples level by level, channels of the code."""

RESIDUALS = 2
"""Residual blocks of a level of the encoder; the decoder has one more."""


def described(c: Config, key: str, *classes: str) -> Config:
    """The parameters of one part, whose class must be one that is known."""
    outer = c.part(key, None)
    found = outer.lookup("cls")
    if found not in (MISSING, *classes):
        raise ConfigError(f"{outer.label}: cls {str(found)[:60]!r} is unknown.", f"Use {classes[0]}.")
    outer.read |= {"model_type"}
    return outer.part("params", None)


def projector(p: Config, role: str) -> Block:
    """A matrix in, and `depth` - 1 square ones."""
    kind = p.lookup("projector_type")
    if kind not in (MISSING, "mlp_gelu"):
        raise ConfigError(f"{p.label}: projector_type {str(kind)[:60]!r} is unknown.", "Use mlp_gelu.")
    width = p.size("n_embed")
    made = linear(f"{role}.layers.0", width, p.size("input_dim"), bias=True)
    for place in range(1, p.size("depth", 1)):
        made += linear(f"{role}.layers.{2 * place}", width, width, bias=True)
    return made


def residual(at: str, inp: int, out: int) -> Block:
    """Two convolutions of three by three, each after a norm, around a shortcut."""
    made = norm(f"{at}.norm1", inp, True) + convolution(f"{at}.conv1", out, inp, 3, 3)
    made += norm(f"{at}.norm2", out, True) + convolution(f"{at}.conv2", out, out, 3, 3)
    return made + convolution(f"{at}.nin_shortcut", out, inp, 1, 1) if inp != out else made


def attention(at: str, width: int) -> Block:
    """Attention over the pixels of the innermost levels, its matrices written as convolutions."""
    made = norm(f"{at}.norm", width, True)
    for word in ("q", "k", "v", "proj_out"):
        made += convolution(f"{at}.{word}", width, width, 1, 1)
    return made


def levels(at: str, widths: list[int], inp: int, blocks: int, innermost: int, resample: str) -> Block:
    """Levels of residual blocks; all but the last change the resolution."""
    made = Block()
    for level, width in enumerate(widths):
        here = f"{at}.conv_blocks.{level}"
        for number in range(blocks):
            made += residual(f"{here}.res.{number}", inp, width)
            inp = width
            if level == innermost:
                made += attention(f"{here}.attn.{number}", width)
        if level < len(widths) - 1:
            made += convolution(f"{here}.{resample}.conv", width, width, 3, 3)
    return made


def middle(at: str, width: int) -> Block:
    around = residual(f"{at}.mid.0", width, width), residual(f"{at}.mid.2", width, width)
    return around[0] + attention(f"{at}.mid.1", width) + around[1]


def autoencoder(codes: int, length: int) -> Block:
    """LlamaGen's VQ-16: an encoder, a codebook and a decoder."""
    widths = [BASE * times for times in WIDTHS]
    inner, last = widths[-1], len(widths) - 1
    made = convolution("encoder.conv_in", BASE, 3, 3, 3)
    made += levels("encoder", widths, BASE, RESIDUALS, last, "downsample") + middle("encoder", inner)
    made += norm("encoder.norm_out", inner, True) + convolution("encoder.conv_out", LATENT, inner, 3, 3)
    made += convolution("decoder.conv_in", inner, LATENT, 3, 3) + middle("decoder", inner)
    made += levels("decoder", widths[::-1], inner, RESIDUALS + 1, 0, "upsample")
    made += norm("decoder.norm_out", BASE, True) + convolution("decoder.conv_out", 3, BASE, 3, 3)
    made += table("quantize.embedding", codes, length)
    made += convolution("quant_conv", length, LATENT, 1, 1)
    return made + convolution("post_quant_conv", LATENT, length, 1, 1)


def describe(c: Config, catalog: Catalog) -> list[Group]:
    text = families.part(c, "language_config", "llama", catalog, main=True)
    seeing = described(c, "vision_config", "CLIPVisionTower")
    seeing.read |= {"select_feature", "select_layer", "image_size"}
    drawing = described(c, "gen_vision_config", "VQ-16")
    ending = described(c, "gen_head_config", "vision_head")
    codes, length = drawing.size("image_token_size"), drawing.size("n_embed")
    inner = ending.size("image_token_embed")
    head = linear("output_mlp_projector", inner, ending.size("n_embed"), bias=True)
    head += linear("vision_head", ending.size("image_token_size"), inner, bias=True)
    joined = projector(described(c, "aligner_config", "MlpProjector"), "aligner")
    drawn = projector(described(c, "gen_aligner_config", "MlpProjector"), "gen_aligner")
    drawn += table("gen_embed", codes, length)
    return [
        *families.decoder(llama, text, c, "language_model."),
        *timm_siglip_tower(named(c, str(seeing.lookup("model_name"))), "vision_model.vision_tower."),
        families.outside("projector", "embedding", joined),
        families.outside("image_generator", "embedding", autoencoder(codes, length), "gen_vision_model."),
        families.outside("image_generator", "embedding", head, "gen_head."),
        families.outside("image_generator", "embedding", drawn),
    ]
