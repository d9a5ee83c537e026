"""Is the demo a fair one? P@1 among the whole vocabulary on held-out facts: the manual prompt beside P-tuning.

    python check.py               both LMs, seeds 1 2 3, and the exported graph beside PyTorch
    python check.py bert --lr 2e-3 --seeds 5 6 --init words

Reads the PyTorch weights that pretrain.py left in its work folder; scores test once, with the best dev table.
"""

import argparse
import collections
import json

import pretrain  # sets one thread before torch is loaded
import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

DATA = pretrain.DEMO / "data"


class PromptEncoder(nn.Module):
    """h = MLP(LSTM(E)), plus the words' embeddings when the prompt starts from words (the last layer is then zero)."""

    def __init__(self, n: int, width: int, base: torch.Tensor | None):
        super().__init__()
        self.embedding = nn.Embedding(n, width)
        self.lstm = nn.LSTM(width, width // 2, num_layers=2, bidirectional=True, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.base = base
        if base is not None:
            nn.init.zeros_(self.mlp[2].weight)
            nn.init.zeros_(self.mlp[2].bias)

    def forward(self) -> torch.Tensor:
        h = self.mlp(self.lstm(self.embedding.weight[None])[0][0])
        return h if self.base is None else self.base + h


class Lm:
    def __init__(self, name: str):
        self.task = json.loads((DATA / "tasks.json").read_text("utf-8"))[f"demo-{name}"]
        self.masked = self.task["kind"] == "masked"
        self.tokenizer = AutoTokenizer.from_pretrained(pretrain.WORK / name)
        family = AutoModelForMaskedLM if self.masked else AutoModelForCausalLM
        self.model = family.from_pretrained(pretrain.WORK / name).eval().requires_grad_(False)
        self.words = self.model.get_input_embeddings().weight
        self.rows = {
            split: [json.loads(line) for line in (DATA / self.task["data"] / f"{split}.jsonl").read_text("utf-8").splitlines()]
            for split in ("train", "dev", "test")
        }

    def encode(self, text: str, first: bool) -> list[int]:
        return self.tokenizer.encode(text if self.masked or first else " " + text, add_special_tokens=False)

    def label(self, row: dict) -> int:
        (label,) = self.encode(row["obj_label"], first=False)
        return label

    def manual(self, row: dict) -> tuple[list[int], list[int]]:
        ids = self.tokenizer.encode(self.task["manual"].replace("{sub_label}", row["sub_label"]))
        return ids, [-1] * len(ids)

    def render(self, row: dict) -> tuple[list[int], list[int]]:
        """Ids, and for each position the row of the prompt table or -1."""
        ids, slots, used = [], [], 0
        for segment in self.task["p_tuning"]["template"]:
            if "virtual" in segment:
                n = segment["virtual"]
                ids += [1] * n
                slots += range(used, used + n)
                used += n
                continue
            if "target" in segment:
                part = [self.tokenizer.mask_token_id] if self.masked else []
            else:
                part = self.encode(row[segment["field"]] if "field" in segment else segment["text"], first=not ids)
            ids += part
            slots += [-1] * len(part)
        if self.masked:
            ids, slots = [self.tokenizer.cls_token_id, *ids, self.tokenizer.sep_token_id], [-1, *slots, -1]
        return ids, slots

    def start(self) -> torch.Tensor:
        """Embeddings of the `init` words of each group, then the mean embedding where it has more pseudo tokens [n, H]."""
        rows = []
        for segment in self.task["p_tuning"]["template"]:
            if "virtual" in segment:
                ids = self.encode(segment["init"], first=not rows)
                rows += list(self.words[ids]) + [self.words.mean(0)] * (segment["virtual"] - len(ids))
        return torch.stack(rows)

    def logits(self, rendered: list, table: torch.Tensor) -> torch.Tensor:
        """[rows, vocabulary] at the mask (masked) or the last token (causal)."""
        longest = max(len(ids) for ids, _ in rendered)
        ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rendered])
        slots = torch.tensor([slots + [-1] * (longest - len(slots)) for _, slots in rendered])
        lengths = torch.tensor([len(ids) for ids, _ in rendered])
        embedded = torch.where(slots[..., None] >= 0, table[slots.clamp(min=0)], self.words[ids])
        out = self.model(inputs_embeds=embedded, attention_mask=(torch.arange(longest) < lengths[:, None]).long()).logits
        target = (ids == self.tokenizer.mask_token_id).long().argmax(1) if self.masked else lengths - 1
        return out[torch.arange(len(rendered)), target]

    def p_at_1(self, split: str, render, table: torch.Tensor) -> tuple[float, list[int]]:
        rows = self.rows[split]
        with torch.no_grad():
            best = self.logits([render(row) for row in rows], table).argmax(1).tolist()
        return 100 * sum(a == self.label(row) for a, row in zip(best, rows)) / len(rows), best

    def among_capitals(self) -> float:
        """P@1 of the manual prompt on test when only the capitals of the three splits may be answered."""
        rows = self.rows["test"]
        capitals = torch.tensor([self.label(row) for split in self.rows.values() for row in split])
        logits = self.logits([self.manual(row) for row in rows], self.words[:1])[:, capitals]
        return 100 * sum(a == self.label(row) for a, row in zip(capitals[logits.argmax(1)].tolist(), rows)) / len(rows)

    def tune(self, seed: int, init: str, lr: float, steps: int, batch: int = 16, every: int = 10, patience: int = 20) -> dict:
        torch.manual_seed(seed)
        base = self.start() if init == "words" else None
        n = sum(segment.get("virtual", 0) for segment in self.task["p_tuning"]["template"])
        encoder = PromptEncoder(n, self.words.shape[1], base)
        optimizer = torch.optim.Adam(encoder.parameters(), lr=lr)
        rows = self.rows["train"]
        best, since, order = {"dev": -1.0}, 0, []
        for step in range(steps + 1):
            if step % every == 0:
                dev, _ = self.p_at_1("dev", self.render, encoder().detach())
                since += 1
                if dev > best["dev"]:
                    best, since = {"dev": dev, "step": step, "table": encoder().detach()}, 0
                if since >= patience:
                    break
            if len(order) < batch:
                order = torch.randperm(len(rows)).tolist()
            picked, order = [rows[index] for index in order[:batch]], order[batch:]
            loss = F.cross_entropy(self.logits([self.render(row) for row in picked], encoder()), torch.tensor([self.label(row) for row in picked]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        train, _ = self.p_at_1("train", self.render, best["table"])
        test, _ = self.p_at_1("test", self.render, best["table"])
        return {"init": init, "seed": seed, "lr": lr, "train": round(train, 1), "dev": round(best["dev"], 1), "test": round(test, 1), "best_step": best["step"], "last_step": step}


def compare_onnx(name: str, lm: Lm) -> float:
    """Largest difference of any logit between PyTorch and the committed graph, over padded test prompts."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(pretrain.DEMO / "models" / f"demo-{name}" / "model.onnx", providers=["CPUExecutionProvider"])
    rendered = [lm.manual(row)[0] for row in lm.rows["test"][:16]]
    longest = max(map(len, rendered))
    ids = np.array([row + [0] * (longest - len(row)) for row in rendered], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (longest - len(row)) for row in rendered], dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids), "position_ids": np.arange(longest)[None].repeat(len(ids), 0)}
    nothing = np.zeros((len(ids), pretrain.HEADS, 0, pretrain.HIDDEN // pretrain.HEADS), dtype=np.float32)
    feeds |= {i.name: nothing for i in session.get_inputs() if i.name.startswith("past_key_values")}
    (ours,) = session.run(["logits"], {i.name: feeds[i.name] for i in session.get_inputs()})
    with torch.no_grad():
        theirs = lm.model(torch.tensor(ids), attention_mask=torch.tensor(mask)).logits.numpy()
    return float(np.abs(ours - theirs)[mask == 1].max())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lms", nargs="*", default=["bert", "gpt2"])
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--init", nargs="+", default=["random", "words"])
    parser.add_argument("--no-onnx", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.lms:
        lm = Lm(name)
        nothing = torch.zeros(1, lm.words.shape[1])
        scores = {split: round(lm.p_at_1(split, lm.manual, nothing)[0], 1) for split in lm.rows}
        print(f"{name} manual P@1: {scores}; facts {({split: len(rows) for split, rows in lm.rows.items()})}")
        _, best = lm.p_at_1("test", lm.manual, nothing)
        wrong = collections.Counter(lm.tokenizer.decode(b) for b, row in zip(best, lm.rows["test"]) if b != lm.label(row))
        print("  its wrong answers:", wrong.most_common(8))
        print(f"  manual among the capitals alone: {lm.among_capitals():.1f}")
        if not options.no_onnx:
            print(f"  largest difference of a logit, ONNX and PyTorch: {compare_onnx(name, lm):.2e}")
        for init in options.init:
            for seed in options.seeds:
                print(" ", json.dumps(lm.tune(seed, init, options.lr, options.steps)), flush=True)


if __name__ == "__main__":
    main()
