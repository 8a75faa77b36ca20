"""What stands beside the checkpoint may be damaged in any way: a run resumes from it, or says which file is wrong."""

import json
import math
import os
import socket

import numpy as np
import pytest
from helpers import forge, refused, rows

import tinygan.run
from tinygan import ArgumentError, CheckpointError, DataError, load_checkpoint, load_generator, read_idx
from tinygan.run import COLUMNS, TIMING

DEEP = 100_000

# ---- run.json


def nested(depth):
    return '{"a": ' * depth + "1" + "}" * depth


def facts(**changes):
    """The text of a sound run.json of two epochs, with these fields in the place of its own."""
    sound = {
        "data": {"name": "idx-tiny0", "source": "a folder", "train": 60, "validation": 12, "test": 10},
        "epochs": 2,
        "every": {"picture": 1, "checkpoint": 1, "evaluation": 2},
        "configuration": {},
        "environment": {"commit": "first"},
        "earlier_commits": ["zeroth"],
        "results": {"epochs": 2, "evaluation": {}},
    }
    return json.dumps({name: value for name, value in (sound | changes).items() if value is not ...})


RUN_JSON = {  # the text, and what of it is lost: the epochs, the commits, the results
    "lost": (None, "epochs"),
    "empty": ("", "epochs"),
    "blank": (" \n", "epochs"),
    "zeros": ("\0" * 4096, "epochs"),
    "half of it": (facts()[:100], "epochs"),
    "not UTF-8": (b"\xff\xfe{}", "epochs"),
    "null": ("null", "epochs"),
    "a list": ("[1, 2]", "epochs"),
    "a string": ('"epochs"', "epochs"),
    "a number": ("3", "epochs"),
    "no fields": ("{}", "epochs"),
    "nested deeply": (nested(DEEP), "epochs"),
    "nested deeply in a field": (facts(results=...)[:-1] + ', "results": ' + nested(DEEP) + "}", "epochs"),
    "an integer without end": (facts()[:-1] + ', "x": ' + "9" * 5000 + "}", "epochs"),
    "NaN": (facts(results={"epochs": 2, "value": math.nan}), "epochs"),
    "infinity by overflow": (facts()[:-1] + ', "x": 1e999}', "epochs"),
    "a surrogate": (facts(earlier_commits=["\ud800"], results={"epochs": 2, "note": "\udcff"}), ""),
    "epochs null": (facts(epochs=None), "epochs"),
    "epochs missing": (facts(epochs=...), "epochs"),
    "epochs a string": (facts(epochs="2"), "epochs"),
    "epochs a list": (facts(epochs=[2]), "epochs"),
    "epochs a float": (facts(epochs=2.5), "epochs"),
    "epochs true": (facts(epochs=True), "epochs"),
    "epochs 0": (facts(epochs=0), "epochs"),
    "epochs −5": (facts(epochs=-5), "epochs"),
    "epochs 10⁴⁰⁰": (facts(epochs=10**400), "epochs"),
    "epochs 10¹²": (facts(epochs=10**12), "epochs"),
    "environment null": (facts(environment=None), "commit"),
    "environment a list": (facts(environment=[1]), "commit"),
    "environment a string": (facts(environment="first"), "commit"),
    "commit a dict": (facts(environment={"commit": {}}), "commit"),
    "commit a list": (facts(environment={"commit": ["first"]}), "commit"),
    "commits null": (facts(earlier_commits=None), "commit"),
    "commits a number": (facts(earlier_commits=7), "commit"),
    "commits of dicts": (facts(earlier_commits=[{}, 1, None]), "commit"),
    "results null": (facts(results=None), "results"),
    "results a list": (facts(results=[2]), "results"),
    "results a string": (facts(results="good"), "results"),
    "results of 10⁴⁰⁰ epochs": (facts(results={"epochs": 10**400}), ""),
    "results of true epochs": (facts(results={"epochs": True}), ""),
    "data null": (facts(data=None), ""),
    "configuration a list": (facts(configuration=[]), ""),
    "every null": (facts(every=None), ""),
}
