"""Generates command lines that must be refused, in families, each with the key its message has to name."""

from __future__ import annotations

import dataclasses
import random
import typing
from collections.abc import Callable, Iterator

from gradkit.config.fields import fields_of, types_of
from gradkit.train.schema import GROUPS, TrainConfig

COMPLETING = {
    ("data", "csv"): ("data.path=x", "data.target=y"),
    ("data", "parquet"): ("data.path=x", "data.target=y"),
    ("data", "npy"): ("data.path=x",),
    ("model", "custom"): ("model.target=pkg.Net",),
    ("loss", "custom"): ("loss.target=pkg.loss",),
}
"""Values that a choice cannot do without, so that the mistake is the only one."""

Case = tuple[list[str], str]
"""Arguments, and what the message must contain."""


def mutated(word: str, dice: random.Random) -> str:
    """`word` with one letter left out, doubled, swapped or replaced."""
    at = dice.randrange(len(word))
    swap = word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :]
    return dice.choice(
        [word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:], swap, word[:at] + "q" + word[at + 1 :]]
    )


def any_key(
    dice: random.Random, wanted: Callable[[object, dataclasses.Field], bool]
) -> tuple[list[str], str, dataclasses.Field]:
    """The choice that has a random key of a wanted kind, the key, and its field."""
    found = [
        ([f"{group}={choice}", *COMPLETING.get((group, choice), ())], f"{group}.{field.name}", field)
        for group, choices in GROUPS.items()
        for choice, schema in choices.items()
        for field in dataclasses.fields(schema)
        if field.name not in ("name", "path", "target") and wanted(types_of(schema)[field.name], field)
    ]
    return dice.choice(found)


def kinds(annotation: object) -> set[object]:
    return set(typing.get_args(annotation)) - {type(None)} or {annotation}


def unknown_choice(dice: random.Random) -> Case:
    group = dice.choice([*GROUPS, "preset"])
    choice = mutated(dice.choice(list(GROUPS.get(group, {"quick": None}))), dice)
    return ([f"{group}={choice}{'' if choice not in GROUPS.get(group, ()) else 'q'}"], group)


def odd_choice(dice: random.Random) -> Case:
    group = dice.choice(list(GROUPS))
    value = dice.choice(
        [
            "null",
            "nan",
            "[mlp]",
            "{a:1}",
            "3",
            "",
            "-1.5",
            "true",
            "''",
            "[]",
            "mlp.yaml",
            "../x",
            "/etc/passwd",
            "ü",
            "${seed}",
        ]
    )
    return ([f"{group}={value}"], group)


def unknown_group(dice: random.Random) -> Case:
    group = dice.choice(list(GROUPS))
    word = mutated(group, dice)
    while word in {*fields_of(TrainConfig), "preset", "hydra", ""}:
        word += "x"
    return ([f"{word}={dice.choice(list(GROUPS[group]))}"], word)


def unknown_key(dice: random.Random) -> Case:
    choice, _, field = any_key(dice, lambda kind, field: True)
    word = mutated(field.name, dice)
    group, _, name = choice[0].partition("=")
    while word in fields_of(GROUPS[group][name]) or not word:
        word += "x"
    return (
        [*choice, f"{dice.choice(['', '++', '+'])}{group}.{word}={dice.choice(['1', 'a', '[1]', 'null'])}"],
        f"{group}.{word}",
    )


def deep_key(dice: random.Random) -> Case:
    key = ".".join(dice.choice(["model", "a", "x_1", "seed", "lr"]) for _ in range(dice.randint(3, 9)))
    return ([f"{dice.choice(['', '+', '++'])}{key}=1"], key)


def wrong_type(dice: random.Random) -> Case:
    numbers = {
        int: ["abc", "1.5", "[1]", "{a:1}", "1e400", "''", "nan", "true", "0x10", "1,000x"],
        float: ["abc", "[1]", "true", "''"],
    }
    kind = dice.choice([int, float, bool, list])
    if kind is bool:
        choice, key, _ = any_key(dice, lambda found, field: found is bool)
        return ([*choice, f"{key}={dice.choice(['maybe', '2.5', '[true]', '{}', 'nan'])}"], key)
    if kind is list:
        choice, key, _ = any_key(dice, lambda found, field: kinds(found) == {int} and "list" in str(found))
        return ([*choice, f"{key}={dice.choice(['3', 'a', '[a]', '[1.5]', '{a:1}', '[[1]]', '[null]'])}"], key)
    choice, key, _ = any_key(dice, lambda found, field: kinds(found) == {kind} and "list" not in str(found))
    return ([*choice, f"{key}={dice.choice(numbers[kind])}".replace(",", "_")], key)


def out_of_range(dice: random.Random) -> Case:
    choice, key, field = any_key(
        dice, lambda kind, field: bool({"low", "above", "high", "below"} & set(field.metadata))
    )
    limits = [
        (field.metadata[limit] + step if limit in ("high", "below") else field.metadata[limit] - step)
        for limit, step in (("low", 1), ("above", 0), ("high", 1), ("below", 0))
        if limit in field.metadata
    ]
    whole = "int" in str(field.type)
    value = str(int(dice.choice(limits)) if whole else float(dice.choice(limits)))
    return ([*choice, f"{key}={f'[{value}]' if 'list' in str(field.type) else value}"], key)


def not_finite(dice: random.Random) -> Case:
    choice, key, _ = any_key(dice, lambda kind, field: float in kinds(kind))
    return ([*choice, f"{key}={dice.choice(['nan', 'inf', '-inf', '1e400', '-1e999'])}"], key)


def unknown_word(dice: random.Random) -> Case:
    choice, key, field = any_key(dice, lambda kind, field: "choices" in field.metadata)
    return ([*choice, f"{key}={mutated(dice.choice(field.metadata['choices']), dice)}x"], key)


def twice(dice: random.Random) -> Case:
    key = dice.choice(["seed", "model", "trainer.epochs", "name", "hydra.run.dir", "+experiment", "preset"])
    return ([f"{key}={dice.choice(['1', 'null', 'a'])}", f"{key}={dice.choice(['1', 'null', 'b'])}"], key.lstrip("+"))


def operator(dice: random.Random) -> Case:
    key = dice.choice(["model", "seed", "trainer.epochs", "data", "optimizer.lr", "nothing.at.all"])
    text = dice.choice([f"~{key}", f"~{key}=-8973", f"+{key}=1", f"{key}@there=1", f"+{key}@a:b=1", f"++{key}.new=1"])
    return ([text], key.partition(".")[0])


def unreadable(dice: random.Random) -> Case:
    value = dice.choice(
        [
            "[1,2",
            "{a:1",
            "'a",
            '"a',
            "a(b",
            "a)b",
            "[1,,2]",
            "{a}",
            "f(1,2",
            "${a",
            "${a:{}",
            "a'b",
            "a:b,c:d]",
            "range(1",
            "int()",
            "choice()",
            "sort(1,a)",
        ]
    )
    key = dice.choice(["name", "model", "seed", "trainer.resume", "hydra.run.dir"])
    return ([f"{key}={value}"], key)


def strange_letters(dice: random.Random) -> Case:
    word = "".join(dice.choice("äßж中🙂\u202e\u200b\x1b\x07\t\r\n\x7f\u0000"[:13]) for _ in range(dice.randint(1, 6)))
    key = dice.choice(list(GROUPS))
    return ([f"{key}={word}[31m"], key) if dice.random() < 0.5 else ([f"{key}.{word}=1"], key)


def too_long(dice: random.Random) -> Case:
    key = dice.choice(["name", "model", "seed", "data.features"])
    return ([f"{key}={dice.choice(['x', '[', 'é', '1,']) * dice.randint(20_000, 50_000)}"], key)


def too_deep(dice: random.Random) -> Case:
    depth = dice.randint(25, 3_000)
    opening, closing = dice.choice([("[", "]"), ("{a:", "}"), ("${a", "}"), ("int(", ")")])
    key = dice.choice(["name", "model.options", "data.features"])
    return ([f"{key}={opening * depth}1{closing * dice.choice([depth, 0])}"[:9_000]], key)


def interpolation(dice: random.Random) -> Case:
    key, value = dice.choice(
        [
            ("seed", "${seed}"),
            ("seed", "${trainer.seed}"),
            ("name", "${name}"),
            ("name", "${a}"),
            ("name", "${oc.env:NO_SUCH_VARIABLE}"),
            ("name", "${nothing:1}"),
            ("name", "${.}"),
            ("name", "${..}"),
            ("trainer.epochs", "${model.name}"),
            ("trainer.epochs", "${trainer}"),
            ("optimizer.lr", "${optimizer.weight_decay}"),
            ("hydra.run.dir", "${a.b}"),
            ("hydra.run.dir", "${hydra.run.dir}"),
            ("data.features", "${data}"),
        ]
    )
    return ([f"{key}={value}"], key)


def missing(dice: random.Random) -> Case:
    return dice.choice(
        [
            (["data=csv"], "data.path=FILE"),
            (["data=parquet"], "data.path=FILE"),
            (["data=npy"], "data.path=FILE"),
            (["data=csv", "data.path=no.csv", "data.target=???"], "data.target"),
            (["model=custom"], "model.target"),
            (["loss=custom"], "loss.target"),
            (["data=csv", "data.path=no.csv", "data.target=y"], "data.path"),
            (["mode=evaluate"], "run"),
            (["mode=evaluate", "run=nowhere"], "run"),
            (["trainer.resume=nowhere"], "trainer.resume"),
        ]
    )


def sweep(dice: random.Random) -> Case:
    key, value = dice.choice(
        [
            ("seed", "0,1"),
            ("model", "mlp,logistic"),
            ("trainer.epochs", "range(1,3)"),
            ("name", "choice(a,b)"),
            ("model", "glob(*)"),
        ]
    )
    bad = [f"{key}={value}"], key
    return dice.choice(
        [
            bad,
            (["-m", "seed=0,x"], "seed"),
            (["-m", "model=mlp,mlpp"], "model"),
            (["-m", "seed=range(0,1e15)"], "seed"),
            (["-m", "seed=range(1,0)"], "seed"),
            (["-m", "seed=interval(0,1)"], "seed"),
            (["-m", "hydra.run.dir=a,b"], "hydra.run.dir"),
            (["-m", "optimizer.lr=0.1,-0.1"], "optimizer.lr"),
        ]
    )


def hydras_own(dice: random.Random) -> Case:
    text = dice.choice(
        [
            "hydra.run.dir=/proc/x",
            "hydra.run=3",
            "hydra.run.dri=x",
            "hydra.run.dir=null",
            "hydra.run.dir=[a]",
            "hydra.run.dir=''",
            "hydra.mode=FAST",
            "hydra.verbose=3",
            "hydra.searchpath=3",
            "hydra.searchpath=[file:///nowhere]",
            "hydra.searchpath=[nothing://x]",
            "hydra/launcher=fast",
            "hydra/lancher=basic",
            "hydra/nothing=x",
            "hydra.launcher._target_=os.system",
            "hydra.sweeper._target_=subprocess.Popen",
            "+hydra.callbacks.x._target_=os.system",
            "hydra.callbacks={a:{_target_:os.system}}",
            "hydra.job.env_copy=[NO_SUCH_VARIABLE]",
            "hydra.job.chdir=maybe",
            "hydra.output_subdir=[a]",
            "+hydra.job_logging={version:1,handlers:{x:{(:1}}}",
            "hydra=3",
            "hydra.nothing=1",
        ]
    )
    return ([text], text.partition("=")[0].lstrip("+").partition("._target_")[0].partition(".x")[0])


def target(dice: random.Random) -> Case:
    name = dice.choice(["os.system", "builtins.open", "torch.load", "subprocess.Popen"])
    return dice.choice(
        [
            (["model=custom", f"model.target={name}"], "model.target"),
            (
                ["model=custom", "model.target=pkg.Net", "--trust", "pkg", f"+model.options._target_={name}"],
                "model.options",
            ),
            (
                [
                    "model=custom",
                    "model.target=pkg.Net",
                    "--trust",
                    "pkg",
                    f"model.options={{a:[{{_target_:{name}}}]}}",
                ],
                "model.options",
            ),
            ([f"+model._target_={name}"], "model._target_"),
            ([f"+_target_={name}"], "_target_"),
            (["loss=custom", f"loss.target={name}", "--trust", "osx"], "loss.target"),
            (["model=custom", "model.target=..", "--trust", "pkg"], "model.target"),
        ]
    )


def option(dice: random.Random) -> Case:
    name = dice.choice(
        [
            "--foo",
            "--model=mlp",
            "-x",
            "--lr",
            "--trusty=a",
            "--experimental-rerun=x",
            "--config-path=/tmp",
            "--config-dir=/nowhere",
            "--no-such",
        ]
    )
    return ([name], name.partition("=")[0])


def no_key(dice: random.Random) -> Case:
    text = dice.choice(
        ["mlp", "=3", "=", "", " ", "logistic", "seed", "help", "a b", ".=1", "..a=1", "1", "[a]", "🙂", "+=1", "~"]
    )
    return ([text], ascii(text).strip("'")[:20])


def combination(dice: random.Random) -> Case:
    return dice.choice(
        [
            (["gradient=manual", "model=cnn_digits", "data=digits_odd"], "gradient"),
            (["gradient=both", "trainer.precision=bf16-mixed"], "trainer.precision"),
            (["gradient=manual", "trainer.compile=true"], "trainer.compile"),
            (["optimizer=lbfgs", "optimizer.weight_decay=0.1"], "optimizer"),
            (["optimizer.nesterov=true"], "optimizer.nesterov"),
            (["model=cnn_digits"], "model"),
            (["model=notebook", "model.feature=30"], "model.feature"),
            (["data=worked_example", "data.standardize=true"], "data.standardize"),
            (["data.test_fraction=0.9"], "data.test_fraction"),
            (["trainer.clip_norm=1", "trainer.clip_value=1"], "trainer.clip_norm"),
            (["run=x"], "run"),
            (["model=mlp", "model.batch_norm=true", "trainer.batch_size=1"], "model.batch_norm"),
        ]
    )


FAMILIES = (
    unknown_choice, odd_choice, unknown_group, unknown_key, deep_key, wrong_type, out_of_range, not_finite,
    unknown_word, twice, operator, unreadable, strange_letters, too_long, too_deep, interpolation, missing, sweep,
    hydras_own, target, option, no_key, combination,
)  # fmt: skip


def generated(count: int, seed: int) -> Iterator[Case]:
    """`count` cases, the families in turn."""
    dice = random.Random(seed)
    for number in range(count):
        yield FAMILIES[number % len(FAMILIES)](dice)
