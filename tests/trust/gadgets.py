"""Files that try to run code, in every place where a file can name something; run as a program.

It opens each of them with an audit hook that writes down processes, sockets and imports, and prints as
JSON what was opened though it should have been refused, and what happened on the way.
"""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from segpref.cli.main import main
from segpref.data import Preparation, open_dataset
from segpref.policies import ModelCard, NetworkSpec, open_model, save_model
from segpref.policies.diffusion import AmbiSegNetwork
from segpref.types import LabelSpace, SegprefError

UNET = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
}
SPACE = LabelSpace("multi-class", ("background", "foreground"))
CARD = ModelCard(
    NetworkSpec("monai.networks.nets.UNet", UNET), SPACE, Preparation(size=(16, 16)), labelled=()
)
POLICY = "segpref.policies.promptable.PromptablePolicy"

CLASSES: list[tuple[str, dict[str, Any]]] = [
    ("os.system", {"command": "true"}),
    ("posix.system", {"command": "true"}),
    ("subprocess.Popen", {"args": ["true"]}),
    ("subprocess.check_output", {"args": ["true"]}),
    ("builtins.eval", {"source": "1"}),
    ("builtins.exec", {"source": "1"}),
    ("runpy.run_path", {"path_name": "gadget_module.py"}),
    ("pydoc.locate", {"path": "gadget_module"}),
    ("importlib.import_module", {"name": "gadget_module"}),
    ("pickle.loads", {"data": "x"}),
    ("socket.create_connection", {"address": ["127.0.0.1", 9]}),
    ("urllib.request.urlopen", {"url": "http://127.0.0.1:9/"}),
    ("gadget_module.Net", {}),
    ("gadget_module.inner.Net", {}),
    ("torch.hub.load", {"repo_or_dir": "a/b", "model": "c"}),
    ("torch.hub.load_state_dict_from_url", {"url": "http://127.0.0.1:9/"}),
    ("torch.load", {"f": "x.pt", "weights_only": False}),
    ("torch.jit.load", {"f": "x.pt"}),
    ("torch.nn.Sequential", {}),
    ("torch.nn.DataParallel", {"module": "x"}),
    ("torch.nn.modules.module.torch.hub.load", {"repo_or_dir": "a/b"}),
    ("torch.ao.nn.quantized.Conv2d", {"in_channels": 1, "out_channels": 2, "kernel_size": 1}),
    ("monai.bundle.run", {"config_file": "x.json"}),
    ("monai.bundle.load", {"name": "spleen_ct_segmentation"}),
    ("monai.apps.download_url", {"url": "http://127.0.0.1:9/"}),
    ("monai.networks.nets.Transchex", {"in_channels": 1, "img_size": [8, 8], "patch_size": 4}),
    ("monai.networks.nets.EfficientNetBN", {"model_name": "efficientnet-b0"}),
    ("monai.networks.nets.EfficientNetBN", {"model_name": "efficientnet-b0", "pretrained": True}),
    ("monai.networks.nets.efficientnet.EfficientNetBNFeatures", {"model_name": "efficientnet-b0"}),
    ("monai.networks.nets.ResNetFeatures", {"model_name": "resnet10"}),
    ("monai.networks.nets.AHNet", {"pretrained": True}),
    ("monai.networks.nets.FlexibleUNet", {**UNET, "backbone": "resnet10", "pretrained": True}),
    ("monai.networks.nets.DenseNet121", {"spatial_dims": 2, "pretrained": 1}),
    ("monai.networks.nets.HoVerNet", {"pretrained_url": "http://127.0.0.1:9/"}),
    ("monai.networks.nets.TorchVisionFCModel", {"pretrained": True}),
    ("monai.networks.nets.MILModel", {"num_classes": 2}),
    ("monai.networks.nets.cell_sam_wrapper.CellSAMWrapper", {"checkpoint": "x.pth"}),
    ("monai.networks.nets.resnet50", {"pretrained": True}),
    ("monai.networks.nets.UNet", {**UNET, "act": {"class_path": "gadget_module.Net"}}),
    ("monai.networks.nets.UNet", {**UNET, "norm": "gadget_module/x"}),
    ("monai.networks.nets.UNet", {**UNET, "norm": "INSTANCE_NVFUSER"}),
    ("monai.networks.utils.torch.hub.load", {"repo_or_dir": "a/b"}),
    ("segpref.cli.main.main", {"arguments": ["--help"]}),
    ("segpref.policies.load_segmenter", {"path": "x"}),
    ("segpref.policies.promptable.load_sam", {"name": "a/b"}),
    ("segpref.policies.promptable.small_sam", {}),
    ("segpref.contrib.prompts.OpenClip", {"name": "hf-hub:a/b"}),
    ("segpref.prompts.Endpoint", {"url": "http://127.0.0.1:9/v1", "model": "m"}),
    ("segpref.trust.trust_code", {"folder": "."}),
    ("transformers.pipeline", {"task": "text-generation", "trust_remote_code": True}),
    ("transformers.AutoModel.from_pretrained", {"pretrained_model_name_or_path": "a/b"}),
    ("..os.system", {}),
    ("os", {}),
    ("", {}),
]


def nnunet(**changes: Any) -> dict[str, Any]:
    """Arguments of nnU-Net's network with one thing changed in its plans."""
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [4, 8],
            "conv_op": "torch.nn.modules.conv.Conv2d",
            "nonlin": "torch.nn.LeakyReLU",
        },
        "_kw_requires_import": ["conv_op", "nonlin"],
    }
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "normalization_schemes": ["ZScoreNormalization"],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "patch_size": [16, 16],
        "architecture": architecture,
    }
    plans = {
        "image_reader_writer": "NibabelIO",
        "label_manager": "LabelManager",
        "configurations": {"2d": configuration},
    }
    arguments = {"plans": plans, "dataset": {"labels": {"background": 0, "heart": 1}}}
    arguments |= {"configuration": "2d", "trainer": "nnUNetTrainer"}
    for place in (architecture, architecture["arch_kwargs"], configuration, plans, arguments):
        place |= {name: value for name, value in changes.items() if name in place}
    return json.loads(json.dumps(arguments))


PLANS: list[dict[str, Any]] = [
    {"network_class_name": "gadget_module.Net"},
    {"network_class_name": "os.system"},
    {"conv_op": "gadget_module.Net"},
    {"nonlin": "os.system"},
    {"nonlin": "torch.hub.load"},
    {"nonlin": ["torch.nn.ReLU"]},
    {"_kw_requires_import": ["n_stages"]},
    {"_kw_requires_import": [["nonlin"]]},
    {"_kw_requires_import": "nonlin"},
    {"preprocessor_name": "load_pickle"},
    {"normalization_schemes": ["gadget"]},
    {"resampling_fn_data": "os"},
    {"image_reader_writer": "gadget"},
    {"image_reader_writer": {"a": 1}},
    {"label_manager": "gadget"},
    {"trainer": "gadget_module"},
    {"trainer": {"a": "gadget_module"}},
]

CONFIGS: list[dict[str, Any]] = [
    {"attn_implementation": "gadget/kernel"},
    {"_attn_implementation": "kernels-community/flash-attn"},
    {"vision_config": {"attn_implementation": {"": "gadget/kernel"}}},
    {"vision_config": {"_attn_implementation": "gadget/kernel:f"}},
    {"auto_map": {"AutoModel": "gadget_module.Net"}},
    {"quantization_config": {"quant_method": "gadget"}},
    {"vision_config": {"backbone_config": {"model_type": "timm_backbone"}}},
    {"vision_config": {"backbone": "resnet18", "use_pretrained_backbone": True}},
    {"model_type": "bert"},
]

ENCODERS = ["gadget/encoder", "package:gadget_module/model", "package:gadget_module.inner/model"]


def cards() -> Iterator[dict[str, Any]]:
    """Cards of model files, each with one thing that is not as it should be."""
    plain = json.loads(CARD.to_json())

    def changed(**parts: Any) -> dict[str, Any]:
        return {**plain, **parts}

    def sam(**arguments: Any) -> dict[str, Any]:
        network = {"module": "segpref.policies.promptable.PromptableNetwork"}
        return {**network, "arguments": {"family": "sam", "config": {}, **arguments}}

    def prompted(prompter: Any) -> dict[str, Any]:
        policy = {"class_path": POLICY, "init_args": {"prompter": prompter}}
        return changed(network=sam(), policy=policy)

    for path, arguments in CLASSES:
        named = {"class_path": path, "init_args": arguments}
        yield changed(network={"module": path, "arguments": arguments})
        yield changed(network={"module": plain["network"]["module"], "arguments": {"act": named}})
        yield changed(network=sam(lora=named))
        yield changed(policy=named)
        yield changed(policy={"class_path": "segpref.policies.Segmenter", "init_args": named})
        for name, value in (("tail", named), ("tail", [named]), ("other", path), ("network", path)):
            yield changed(policy={**plain["policy"], "init_args": {name: value}})
        yield changed(policy={"class_path": POLICY, "init_args": {"text_encoder": named}})
        yield changed(policy={"class_path": POLICY, "init_args": {"text_encoder": path}})
        yield prompted(named)
        yield prompted(path)
        yield prompted(
            {"class_path": "segpref.prompts.KeptPrompts", "init_args": {"prompter": named}}
        )
        for part in ("clip", "saliency", "crf", "descriptions", "answerer"):
            inside = {"targets": [{"text": "a"}], part: named}
            yield prompted({"class_path": "segpref.prompts.SaliencyPrompts", "init_args": inside})
        inside = {"targets": [named]}
        yield prompted({"class_path": "segpref.prompts.SaliencyPrompts", "init_args": inside})
        yield prompted({**named, "dict_kwargs": arguments})
    for changes in PLANS:
        network = {
            "module": "segpref.policies.nnunet.NnUNetNetwork",
            "arguments": nnunet(**changes),
        }
        yield changed(network=network)
        if "trainer" not in changes:
            arguments = nnunet(**changes)
            del arguments["trainer"]
            yield changed(preparation=arguments)
    for config in CONFIGS:
        yield changed(network=sam(config=config))
    for name in ENCODERS:
        ambiseg = {"module": "segpref.policies.diffusion.AmbiSegNetwork"}
        arguments = {"channels": [8, 8], "text_encoder": name, "text_width": 8}
        policy = {"class_path": "segpref.policies.diffusion.AmbiSeg", "init_args": {}}
        yield changed(network={**ambiseg, "arguments": arguments}, policy=policy)
        for part, kind in (("clip", "TransformersClip"), ("answerer", "LocalVQA")):
            given = {"class_path": f"segpref.prompts.{kind}", "init_args": {"name": name}}
            inside = {"targets": [{"text": "a"}], part: given}
            if part == "answerer":
                inside["clip"] = {**given, "class_path": "segpref.prompts.TransformersClip"}
            yield prompted({"class_path": "segpref.prompts.SaliencyPrompts", "init_args": inside})
    file = {"class_path": "segpref.prompts.Descriptions", "init_args": {"file": "/dev/zero"}}
    yield prompted(
        {"class_path": "segpref.prompts.SaliencyPrompts", "init_args": {"descriptions": file}}
    )
    yield changed(code="code")


def model_files(root: Path) -> Iterator[Path]:
    """Model files of segpref's own, YAML descriptions and MONAI bundles that name gadgets."""
    weights = CARD.network.build().state_dict()
    for number, card in enumerate(cards()):
        path = root / f"card-{number}.safetensors"
        save_file(weights, path, {"card": json.dumps(card)})
        yield path
    description = {
        "weights": "unet.pt",
        "label_space": {"kind": "multi-class", "names": ["background", "heart"]},
        "preparation": {"dims": 2, "size": [16, 16]},
    }
    torch.save(weights, root / "unet.pt")
    for number, (path, arguments) in enumerate(CLASSES):
        network = {"class_path": path, "init_args": arguments}
        (root / f"{number}.yaml").write_text(yaml.safe_dump({**description, "network": network}))
        yield root / f"{number}.yaml"
        target = {"_target_": path, **arguments}
        yield bundle(root / f"bundle-{number}", {"network_def": target}, weights)
        nested = {"_target_": "UNet", **UNET, "act": target}
        yield bundle(root / f"nested-{number}", {"network_def": nested}, weights)
    tag = "!!python/object/apply:os.system ['true']\n"
    (root / "tag.yaml").write_text(f"weights: unet.pt\nnetwork: {tag}")
    yield root / "tag.yaml"
    unet = {"_target_": "UNet", **UNET}
    for number, (config, part) in enumerate(
        [
            ({"network_def": "$__import__('os').system('true')"}, None),
            (
                {"network_def": {**unet, "out_channels": "$__import__('os').system('true') or 2"}},
                None,
            ),
            (
                {
                    "network_def": {**unet, "out_channels": "@n"},
                    "n": "$__import__('gadget_module')",
                },
                None,
            ),
            ({"network_def": "%../../secret.json::network_def"}, None),
            ({"network_def": f"%{root}/secret.json::network_def"}, None),
            ({"network_def": {**unet, "_target_": "scripts.Net"}}, "scripts"),
        ]
    ):
        place = bundle(root / f"code-{number}", config, weights)
        if part is not None:
            (place / f"{part}.py").write_text("import gadget_module\n")
        yield place
    (root / "secret.json").write_text(json.dumps({"network_def": unet}))
    pickled = bundle(root / "pickled", {"network_def": unet}, {"model": Runs()})
    yield pickled
    torch.save({"network_weights": Runs()}, root / "unet-pickled.pt")
    network = {"class_path": "monai.networks.nets.UNet", "init_args": UNET}
    told = {**description, "network": network, "weights": "unet-pickled.pt"}
    (root / "pickled.yaml").write_text(yaml.safe_dump(told))
    yield root / "pickled.yaml"
    stranger = root / "nnUNetTrainer__nnUNetPlans__2d"
    (stranger / "fold_0").mkdir(parents=True)
    for name, content in (("plans", nnunet()["plans"]), ("dataset", nnunet()["dataset"])):
        (stranger / f"{name}.json").write_text(json.dumps(content))
    torch.save({"network_weights": Runs()}, stranger / "fold_0" / "checkpoint_final.pth")
    yield stranger


class Runs:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.system, ("true",))


def bundle(root: Path, config: dict[str, Any], weights: Any) -> Path:
    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    names = {"0": "background", "1": "heart"}
    formats = {
        "inputs": {"image": {"num_channels": 1, "channel_def": {"0": "MR"}}},
        "outputs": {"pred": {"num_channels": 2, "channel_def": names}},
    }
    (root / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": formats}))
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(weights, root / "models" / "model.pt")
    return root


def image_files(root: Path) -> Iterator[Path]:
    """Files that are taken for images, and are something that another program must open."""
    eps = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"
    for name in ("eps.png", "eps.tif", "eps.jpg", "eps.gif"):
        (root / name).write_text(eps)
        yield root / name
    np.save(root / "objects.npy", np.array([Runs()], dtype=object), allow_pickle=True)
    (root / "objects.npy").replace(root / "objects.png")
    yield root / "objects.png"


def packs(root: Path) -> Iterator[Path]:
    """Packed datasets whose arrays are pickles."""
    for name in ("image", "label"):
        place = root / f"pack-{name}"
        (place / "volumes").mkdir(parents=True)
        whole = np.zeros((1, 16, 16), np.uint8)
        arrays: dict[str, Any] = {"image": whole, "label": whole, "scale": np.ones(1)}
        arrays |= {"offset": np.zeros(1), name: np.array([Runs()], dtype=object)}
        with zipfile.ZipFile(place / "volumes" / "p.npz", "w") as archive:
            for key, array in arrays.items():
                with archive.open(f"{key}.npy", "w") as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=True)
        content = {
            "version": 1,
            "label_space": {"kind": "multi-class", "names": ["background", "heart"], "regions": []},
            "channels": ["MR"],
            "patients_known": True,
            "class_path": "gadget_module.Net",
            "volumes": [
                {"id": "p", "patient": "p", "stratum": None, "text": None, "labelled": True}
            ],
        }
        (place / "pack.json").write_text(json.dumps(content))
        yield place


def poison(cache: Path) -> None:
    """Put pickles and names that climb out into every entry of a cache."""
    pickled = io.BytesIO()
    np.save(pickled, np.array([Runs()], dtype=object), allow_pickle=True)
    for number, path in enumerate(sorted(cache.rglob("*"))):
        if path.suffix == ".npy":
            path.write_bytes(pickled.getvalue())
        elif path.name == "key.json" and number % 2:
            note = json.loads(path.read_text())
            note["arrays"] = {f"../../{name}": one for name, one in note["arrays"].items()}
            path.write_text(json.dumps(note))


def attempts(root: Path, model: Path, data: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Everything that is tried, with what it is."""
    few = []
    for path in model_files(root):
        if path.name in ("card-0.safetensors", "card-3.safetensors", "0.yaml", "bundle-0"):
            few.append(path)
        yield f"open {path.name}", lambda path=path: open_model(path, labelled=[]).policies()
    out = str(root / "out")
    for path in few:
        common = ["--data", str(data), "--model"]
        shape = ["--preparation.size", "[16, 16]", "--labelled", "[]"]
        for command, rest in {
            "predict": ["--model", str(path), "--input", str(data), "--output", out],
            "export": ["--model", str(path), "--out", f"{out}/x.ts"],
            "evaluate": [*common, str(path), *shape],
            "align": [*common, str(path), "--judge", "oracle", "--out", out, *shape],
            "audit": [*common, str(path), "--judge", "oracle", *shape],
            "sample": ["--model", str(path), "--input", str(data), "--output", out],
            "fit": ["--data", str(data), "--start", str(path), "--out", out],
        }.items():
            yield f"{command} {path.name}", lambda command=command, rest=rest: told(command, rest)
        judged = [*common, str(model), "--judge", str(path)]
        yield f"audit --judge {path.name}", lambda rest=judged: told("audit", rest)
        judged = [*judged, "--out", out]
        yield f"align --judge {path.name}", lambda rest=judged: told("align", rest)
    for path in image_files(root):
        rest = ["--model", str(model), "--input", str(path), "--output", f"{out}-{path.name}"]
        yield f"predict {path.name}", lambda rest=rest: told("predict", rest)
    place = root / "aligned"
    (place / "summary.json").unlink()
    for name in ("best", "state"):
        torch.save(Runs(), place / f"{name}.safetensors")
    rest = ["--model", str(place), "--input", str(data), "--output", out]
    yield "predict best", lambda rest=rest: told("predict", rest)
    rest = [*harmless(root, model, data)["align"], "--resume"]
    yield "resume", lambda rest=rest: told("align", rest)
    for path in packs(root):
        reader = open_dataset(path)
        (source,) = reader.sources()
        yield f"read {path.name}", lambda reader=reader, source=source: reader.read(source)


def harmless(root: Path, model: Path, data: Path) -> dict[str, list[str]]:
    """One use of every command that opens a model."""
    shown, given = ["--data", str(data)], ["--model", str(model)]
    more = [*shown, *given, "--judge", "oracle", "--split", str(root / "split.json")]
    split = {"train": ["p0", "p1"], "judge": [], "validation": ["p2", "p3"], "test": ["p4", "p5"]}
    (root / "split.json").write_text(json.dumps(split))
    return {
        "predict": [*given, "--input", str(data / "images"), "--output", str(root / "m")],
        "evaluate": [*shown, *given, "--split", str(root / "split.json")],
        "export": [*given, "--out", str(root / "model.ts")],
        "audit": more,
        "align": [*more, "--out", str(root / "aligned"), "--epochs", "1"],
    }


def told(command: str, rest: list[str]) -> None:
    """Run a command; raises where it ends in a sentence, as it should."""
    if status := main([command, *rest]):
        raise SegprefError(f"exit status {status}")


def run(root: Path) -> dict[str, Any]:
    """Try everything; what was seen."""
    (root / "gadget_module").mkdir()
    (root / "gadget_module" / "__init__.py").write_text("import torch\nNet = torch.nn.Identity\n")
    (root / "gadget_module" / "inner.py").write_text("import torch\nNet = torch.nn.Identity\n")
    sys.path.insert(0, str(root))
    model, data = root / "base.safetensors", root / "data"
    save_model(model, CARD.network.build(), CARD)
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
    for number in range(8):
        for folder in ("images", "labels"):
            pixels = np.eye(16, dtype=np.uint8)
            Image.fromarray(pixels).save(data / folder / f"p{number}.png")
    # What a harmless model imports is imported now, so that whatever comes later is a gadget's doing.
    for command, rest in harmless(root, model, data).items():
        assert main([command, *rest]) == 0, command
    PIL.Image.init()  # all that Pillow can read, with what that imports
    AmbiSegNetwork(channels=(8, 8), text_encoder=None)
    known = {*sys.stdlib_module_names, *(name.partition(".")[0] for name in sys.modules)}
    known -= {"gadget_module", "scripts"}

    seen: list[str] = []
    watched = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork")
    watched += ("socket.connect", "socket.getaddrinfo", "pickle.find_class")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(watched):
            seen.append(f"{event} {arguments!r:.200}")
        elif event == "import" and str(arguments[0]).partition(".")[0] not in known:
            seen.append(f"{event} {arguments[0]}")

    sys.addaudithook(hook)
    opened, events, count = [], {}, 0
    for name, attempt in attempts(root, model, data):
        before = len(seen)
        count += 1
        try:
            attempt()
            opened.append(name)
        except SegprefError:
            pass
        if seen[before:]:
            events[name] = seen[before:]
    before = len(seen)
    poison(Path(os.environ["SEGPREF_CACHE"]))
    evaluate = harmless(root, model, data)["evaluate"]
    status = main(["evaluate", *evaluate])  # what is damaged is made anew
    events |= {"a poisoned cache": seen[before:]} if seen[before:] else {}
    return {"opened": opened, "events": events, "tried": count, "evaluated": status}


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
