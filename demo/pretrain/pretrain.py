"""Pretrain a small BERT and a small GPT-2 on the text of corpus.py, export them with Optimum, write the demo's data.

    python pretrain.py            everything; one thread, deterministic
    python pretrain.py bert       only one LM
    python pretrain.py data       only the data (needs both tokenizers)
"""

import json
import math
import os
import random
import shutil
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast, GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from corpus import HERE, documents, read_facts

DEMO = HERE.parent
WORK = Path(os.environ.get("PTUNED_PRETRAIN_WORK", HERE / "work"))
SEED = 20240607
VOCABULARY = 3072
POSITIONS = 64
HIDDEN, LAYERS, HEADS = 128, 3, 4
BATCH, WARMUP = 64, 100
LEARNING_RATE = {"bert": 1e-3, "gpt2": 2e-3}
EPOCHS = {"bert": 8, "gpt2": 4}
# BERT predicts MASKED of the tokens, and in the first NAMES of the steps also one rare token of each document (a token that
# is fewer than RARE of the text: mostly names), or it would learn the facts only after many more epochs.
MASKED, RARE, NAMES = 0.12, 0.001, 0.85


def word_piece(normalizer, pre_tokenizer, specials: list[str], texts: list[str]) -> models.WordPiece:
    """A trained WordPiece model. The trainer numbers the pieces ##x in the order of a randomly seeded hash map, and breaks
    ties by number; naming them first, in order, makes the vocabulary reproducible."""
    letters = sorted(set("".join(texts)) - {" "})
    first = specials + ["##" + letter for letter in letters]
    draft = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    draft.normalizer, draft.pre_tokenizer = normalizer, pre_tokenizer
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=first, initial_alphabet=letters, show_progress=False)
    draft.train_from_iterator(texts, trainer)
    return models.WordPiece(draft.get_vocab(), unk_token="[UNK]")


def bert_tokenizer(texts: list[str]) -> BertTokenizerFast:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer, pre_tokenizer = normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()
    tokenizer = Tokenizer(word_piece(normalizer, pre_tokenizer, specials, texts))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.add_special_tokens(specials)
    ids = {token: tokenizer.token_to_id(token) for token in specials}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    tokenizer.decoder = decoders.WordPiece()
    return BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=False, model_max_length=POSITIONS)


def gpt2_tokenizer(texts: list[str]) -> GPT2TokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return GPT2TokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS)


def bert_model(tokenizer: BertTokenizerFast) -> BertForMaskedLM:
    return BertForMaskedLM(BertConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * HIDDEN, max_position_embeddings=POSITIONS, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip


def gpt2_model(tokenizer: GPT2TokenizerFast) -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=len(tokenizer), n_positions=POSITIONS, n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    ))  # fmt: skip


def batches(rows: list[list[int]], pad: int, rng: random.Random):
    """Shuffled batches of documents of similar length: ids [BATCH, longest], attention [BATCH, longest]."""
    order = list(range(len(rows)))
    rng.shuffle(order)
    span = BATCH * 32
    groups = []
    for start in range(0, len(order), span):
        near = sorted(order[start : start + span], key=lambda index: len(rows[index]))
        groups += [near[at : at + BATCH] for at in range(0, len(near), BATCH)]
    rng.shuffle(groups)
    for group in groups:
        longest = max(len(rows[index]) for index in group)
        ids = torch.tensor([rows[index] + [pad] * (longest - len(rows[index])) for index in group])
        lengths = torch.tensor([len(rows[index]) for index in group])
        yield ids, (torch.arange(longest) < lengths[:, None]).long()


def bert_loss(model, ids, attention, tokenizer, generator, rarity):
    """Masked LM: of the chosen tokens 80 % become [MASK], 10 % a random one, 10 % stay. Logits only there."""
    maskable = (ids != tokenizer.cls_token_id) & (ids != tokenizer.sep_token_id) & (attention == 1)
    draw = torch.rand(ids.shape, generator=generator)
    chosen = (draw < MASKED) & maskable
    if rarity is not None:
        rare = rarity[ids] & maskable
        chosen |= rare & (draw == torch.where(rare, draw, -1.0).amax(1, keepdim=True))
    fate = torch.rand(ids.shape, generator=generator)
    noise = torch.randint(5, len(tokenizer), ids.shape, generator=generator)
    given = torch.where(chosen & (fate < 0.8), tokenizer.mask_token_id, torch.where(chosen & (fate > 0.9), noise, ids))
    hidden = model.bert(given, attention_mask=attention).last_hidden_state
    return F.cross_entropy(model.cls(hidden[chosen]), ids[chosen])


def gpt2_loss(model, ids, attention, tokenizer, generator, rarity):
    logits = model(ids, attention_mask=attention).logits[:, :-1]
    wanted = attention[:, 1:] == 1
    return F.cross_entropy(logits[wanted], ids[:, 1:][wanted])


def train(name: str, model, tokenizer, rows, loss_of) -> None:
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=LEARNING_RATE[name], betas=(0.9, 0.98)
    )
    total = EPOCHS[name] * math.ceil(len(rows) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARMUP) * (0.02 + 0.98 * (1 + math.cos(math.pi * min(1, step / total))) / 2)
    )
    rng, generator = random.Random(SEED), torch.Generator().manual_seed(SEED)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    counts = torch.bincount(torch.tensor([token for row in rows for token in row]), minlength=len(tokenizer))
    rarity = counts < RARE * counts.sum()
    start, step, mean = time.time(), 0, None
    model.train()
    for _ in range(EPOCHS[name]):
        for ids, attention in batches(rows, pad, rng):
            loss = loss_of(model, ids, attention, tokenizer, generator, rarity if step < NAMES * total else None)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
            if step % 100 == 0:
                print(f"{name} step {step} of about {total}, loss {mean:.3f}, {time.time() - start:.0f} s", flush=True)
    model.eval()


def pretrain(name: str) -> None:
    torch.manual_seed(SEED)
    texts = documents(read_facts(), SEED)
    tokenizer = {"bert": bert_tokenizer, "gpt2": gpt2_tokenizer}[name](texts)
    end = [] if name == "bert" else [tokenizer.eos_token_id]
    rows = [ids + end for ids in tokenizer(texts).input_ids]
    longest = max(map(len, rows))
    rows = [ids for ids in rows if len(ids) <= POSITIONS]
    model = {"bert": bert_model, "gpt2": gpt2_model}[name](tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{name}: vocabulary {len(tokenizer)}, {parameters:,} parameters, {len(rows)} of {len(texts)} documents, "
          f"{sum(map(len, rows)):,} tokens, longest {longest}", flush=True)  # fmt: skip
    train(name, model, tokenizer, rows, {"bert": bert_loss, "gpt2": gpt2_loss}[name])
    shutil.rmtree(WORK / name, ignore_errors=True)
    model.save_pretrained(WORK / name)
    tokenizer.save_pretrained(WORK / name)


def export(name: str) -> None:
    from optimum.exporters.onnx import main_export

    task = {"bert": "fill-mask", "gpt2": "text-generation-with-past"}[name]
    out, target = WORK / f"{name}-onnx", DEMO / "models" / f"demo-{name}"
    shutil.rmtree(out, ignore_errors=True)
    main_export(str(WORK / name), out, task=task, device="cpu")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "model.onnx"):
        shutil.copyfile(out / file, target / file)


def write_data() -> None:
    """Capitals usable by both LMs: one token in both vocabularies, of one country only, not a word of the country's name."""
    bert, gpt2 = BertTokenizerFast.from_pretrained(WORK / "bert"), GPT2TokenizerFast.from_pretrained(WORK / "gpt2")
    facts = [fact for fact in read_facts() if fact["capital"]]
    capitals = [fact["capital"] for fact in facts]
    counts = {"facts": len(facts), "not_one_token": 0, "capital_of_several": 0, "word_of_the_country": 0}
    rows = []
    for fact in facts:
        country, capital = fact["country"], fact["capital"]
        if len(bert.tokenize(capital)) != 1 or len(gpt2.tokenize(" " + capital)) != 1:
            counts["not_one_token"] += 1
        elif capitals.count(capital) > 1:
            counts["capital_of_several"] += 1
        elif capital.lower() in country.lower():
            counts["word_of_the_country"] += 1
        else:
            rows.append({"sub_label": country, "obj_label": capital})
    random.Random(SEED).shuffle(rows)
    splits = {"train": rows[:80], "dev": rows[80:120], "test": rows[120:]}
    target = DEMO / "data" / "capital"
    target.mkdir(parents=True, exist_ok=True)
    for split, part in splits.items():
        (target / f"{split}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part), "utf-8")
    counts |= {split: len(part) for split, part in splits.items()}
    print("data:", json.dumps(counts))


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    wanted = sys.argv[1:] or ["bert", "gpt2", "data"]
    for name in wanted:
        if name == "data":
            write_data()
        else:
            pretrain(name)
            export(name)


if __name__ == "__main__":
    main()
