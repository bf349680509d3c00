"""The lists: classes that a file may name, because building one does nothing else.

A class is on a list if, whatever numbers, strings and lists it is given, it reaches no network, opens
no file, starts no process and imports nothing but its own package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "LAYERS",
    "MONAI",
    "NETWORKS",
    "NNUNET",
    "NNUNET_LAYERS",
    "NNUNET_TRAINERS",
    "PARTS",
    "POLICIES",
    "Settings",
]


@dataclass(frozen=True)
class Settings:
    """Arguments that a file may give to a class of segpref.

    Args:
        plain: numbers, text, and lists of these.
        parts: objects that are themselves named by ``class_path`` and ``init_args``.
        records: mappings from these names to plain values, or lists of such.
        checkpoints: names of checkpoints of transformers, which are never downloaded for a file, or of
            segpref's model files.
    """

    plain: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()
    records: Mapping[str, frozenset[str]] = field(default_factory=dict)
    checkpoints: frozenset[str] = frozenset()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


NETWORKS = {
    "segpref.networks": {
        "ProbabilisticUNet": Settings(
            plain=_names("in_channels out_channels channels units features latent latent_channels"),
        ),
    },
    "segpref.policies.nnunet": {
        # Plans and dataset are looked through by a check of their own.
        "NnUNetNetwork": Settings(plain=_names("plans dataset configuration trainer")),
    },
    "segpref.policies.promptable": {
        # So is the configuration.
        "PromptableNetwork": Settings(
            plain=_names("family config fit mean std iterations text_width lora"),
            checkpoints=_names("text_encoder"),
        ),
    },
    "segpref.policies.diffusion": {
        "AmbiSegNetwork": Settings(
            plain=_names(
                "in_channels out_channels channels attention middle_attention layers heads patch "
                "cross text_width latent latent_channels timesteps first_beta last_beta "
                "prediction scale"
            ),
            checkpoints=_names("text_encoder"),
        ),
    },
}
"""Networks of segpref, by package."""

POLICIES = {
    "segpref.policies": {
        "LatentSegmenter": Settings(),
        "Segmenter": Settings(plain=_names("tail")),
    },
    "segpref.policies.promptable": {"PromptablePolicy": Settings(parts=_names("prompter"))},
    "segpref.policies.diffusion": {"AmbiSeg": Settings()},
}
"""Policies, by package. An encoder that was loaded already is no argument that a file can give."""

_PROMPTS = {
    "FixedPrompts": Settings(records={"prompts": _names("box points text")}),
    "WholeImage": Settings(plain=_names("structures texts")),
    "KeptPrompts": Settings(parts=_names("prompter")),
    "ExpertPrompts": Settings(
        plain=_names("seed"),
        parts=_names("draw texts_of"),
        records={"draw": _names("points shift box_rate point_rate")},
    ),
    "LabelPrompts": Settings(plain=_names("points shift box_rate point_rate")),
    "SaliencyPrompts": Settings(
        plain=_names("points use_box question least_share seed"),
        parts=_names("clip saliency crf descriptions answerer"),
        records={"targets": _names("text components description")},
    ),
    "TransformersClip": Settings(plain=_names("layer mean std"), checkpoints=_names("name")),
    "LocalVQA": Settings(plain=_names("template max_new_tokens"), checkpoints=_names("name")),
    "GScoreCAM": Settings(plain=_names("channels temperature batch_size")),
    "GradCAM": Settings(),
    "DenseCRF": Settings(
        plain=_names(
            "size steps appearance_weight appearance_sigma intensity_sigma smoothness_weight "
            "smoothness_sigma"
        )
    ),
    # Not `file`: it is a path. Not Endpoint: it reaches a network.
    "Descriptions": Settings(),
}
PARTS = {
    "segpref.prompts": _PROMPTS,
    "segpref.policies.promptable": {
        # A model file of segpref's own format, which is opened as safely as the one that names it.
        "SegmenterPrompts": Settings(
            plain=_names("margin points components structures seed"), checkpoints=_names("model")
        ),
    },
}
"""What makes prompts, by package."""

MONAI = {
    "nets": _names(
        "AHNet AHnet Ahnet AttentionUnet AutoEncoder AutoencoderKL BasicUNet BasicUnet Basicunet "
        "BasicUNetPlusPlus BasicUnetPlusPlus BasicunetPlusPlus Classifier ControlNet Critic "
        "DAF3D DecoderOnlyTransformer DenseNet Densenet DenseNet121 DenseNet169 DenseNet201 "
        "DenseNet264 DiffusionModelUNet Discriminator DynUNet DynUnet Dynunet EfficientNet "
        "EfficientNetBN EfficientNetBNFeatures FlexUNet FlexibleUNet FullyConnectedNet Generator "
        "GlobalNet HighResNet HoVerNet HoVernet HoverNet Hovernet LocalNet MaskedAutoEncoderViT "
        "MedNeXt MedNext MultiScalePatchDiscriminator PatchDiscriminator Quicknat RegUNet "
        "Regressor ResNet ResNetFeatures Restormer SENet SEnet Senet SENet154 SEResNet50 "
        "SEResNet101 SEResNet152 SEResNext50 SEResNext101 SPADEAutoencoderKL "
        "SPADEDiffusionModelUNet SPADENet SegResNet SegResNetDS SegResNetDS2 SegResNetVAE "
        "SwinUNETR UNETR UNet Unet VNet VQVAE VarAutoEncoder VarFullyConnectedNet ViT ViTAutoEnc "
        "VoxelMorphUNet"
    ),
    "blocks": _names(
        "ADN CABlock ConvDenseBlock Convolution DenseBlock DownSample FeedForward "
        "MLPBlock MaxAvgPool MedNeXtBlock ResBlock ResidualSELayer ResidualUnit SEBlock "
        "SimpleASPP SubpixelDownsample SubpixelUpsample Swish UnetBasicBlock UnetOutBlock "
        "UnetResBlock UnetUpBlock UnetrBasicBlock UpSample"
    ),
    "layers": _names("ChannelPad DropPath Flatten GaussianFilter Reshape"),
}
"""Classes of ``monai.networks``, by package.

Left out are those that always download (Transchex, TorchVisionFCModel, MILModel), open a checkpoint
(CellSamWrapper), or take modules, which a file can't hold (NetAdapter, DiNTS, VISTA3D). Those with an
argument ``pretrained`` are built only where that is false.
"""

LAYERS = _names(
    "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d "
    "AdaptiveMaxPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d BatchNorm1d BatchNorm2d "
    "BatchNorm3d CELU ChannelShuffle ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d "
    "Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Dropout Dropout1d Dropout2d "
    "Dropout3d ELU Embedding FeatureAlphaDropout Flatten Fold GELU GLU GroupNorm Hardshrink "
    "Hardsigmoid Hardswish Hardtanh Identity InstanceNorm1d InstanceNorm2d InstanceNorm3d "
    "LPPool1d LPPool2d LayerNorm LeakyReLU Linear LocalResponseNorm LogSigmoid LogSoftmax "
    "MaxPool1d MaxPool2d MaxPool3d Mish MultiheadAttention PReLU PixelShuffle PixelUnshuffle "
    "RMSNorm RReLU ReLU ReLU6 ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d "
    "ReplicationPad2d ReplicationPad3d SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus "
    "Softshrink Softsign SyncBatchNorm Tanh Tanhshrink Threshold Transformer "
    "TransformerEncoderLayer TransformerDecoderLayer Unflatten Unfold Upsample "
    "UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d"
)
"""Layers of ``torch.nn``: no containers, which take modules, and no losses, which are no networks."""

NNUNET = {
    "image_reader_writer": _names(
        "SimpleITKIO SimpleITKIOWithReorient NibabelIO NibabelIOWithReorient NaturalImage2DIO Tiff3DIO"
    ),
    "label_manager": _names("LabelManager"),
    "preprocessor_name": _names("DefaultPreprocessor"),
    "normalization_schemes": _names(
        "ZScoreNormalization CTNormalization NoNormalization RescaleTo01Normalization "
        "RGBTo01Normalization"
    ),
    **dict.fromkeys(
        ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities"),
        _names(
            "resample_data_or_seg_to_shape resample_data_or_seg_to_spacing resample_torch_simple "
            "resample_torch_fornnunet no_resampling_hack"
        ),
    ),
    "UNet_class_name": _names("PlainConvUNet ResidualEncoderUNet"),
}
"""What nnU-Net looks up by the names in its plans, by the setting that holds the name."""

NNUNET_LAYERS = {
    "dynamic_network_architectures.architectures": _names(
        "PlainConvUNet ResidualEncoderUNet ResidualUNet Primus PrimusS PrimusB PrimusM PrimusL "
        "PrimusV2 PrimusV2S PrimusV2B PrimusV2M PrimusV2L PrimusV3 PrimusV3S PrimusV3B PrimusV3M "
        "PrimusV3L"
    ),
    "dynamic_network_architectures.building_blocks": _names("BasicBlockD BottleneckD"),
}
"""Classes of dynamic_network_architectures, by package."""

_EPOCHS = (1, 5, 10, 20, 50, 100, 250, 500, 750, 2000, 4000, 8000)
NNUNET_TRAINERS = (
    _names(
        "nnUNetTrainer nnUNetTrainerAdam nnUNetTrainerAdam1en3 nnUNetTrainerAdam3en4 "
        "nnUNetTrainerAdan nnUNetTrainerAdan1en1 nnUNetTrainerAdan1en3 nnUNetTrainerAdan3en4 "
        "nnUNetTrainerAdanCosAnneal nnUNetTrainerBN nnUNetTrainerBenchmark_5epochs "
        "nnUNetTrainerBenchmark_5epochs_noDataLoading nnUNetTrainerCELoss "
        "nnUNetTrainerCELoss_5epochs nnUNetTrainerCosAnneal nnUNetTrainerDA5 "
        "nnUNetTrainerDA5Segord0 nnUNetTrainerDA5_10epochs nnUNetTrainerDA5ord0 "
        "nnUNetTrainerDiceCELoss_noSmooth nnUNetTrainerDiceLoss nnUNetTrainerDiceTopK10Loss "
        "nnUNetTrainerNoDA nnUNetTrainerNoDeepSupervision nnUNetTrainerNoMirroring "
        "nnUNetTrainerTopk10Loss nnUNetTrainerTopk10LossLS01 nnUNetTrainerVanillaAdam "
        "nnUNetTrainerVanillaAdam1en3 nnUNetTrainerVanillaAdam3en4 nnUNetTrainer_DASegOrd0 "
        "nnUNetTrainer_DASegOrd0_NoMirroring nnUNetTrainer_noDummy2DDA "
        "nnUNetTrainer_onlyMirror01 nnUNetTrainer_onlyMirror01_1500ep "
        "nnUNetTrainer_onlyMirror01_DA5 nnUNetTrainer_onlyMirror01_DASegOrd0 "
        "nnUNetTrainer_probabilisticOversampling nnUNetTrainer_probabilisticOversampling_010 "
        "nnUNetTrainer_probabilisticOversampling_033 nnUNetTrainer_warmup "
        "nnUNet_PrimusV2B_Trainer nnUNet_PrimusV2L_Trainer nnUNet_PrimusV2M_Trainer "
        "nnUNet_PrimusV2S_Trainer nnUNet_PrimusV3B_Trainer nnUNet_PrimusV3L_Trainer "
        "nnUNet_PrimusV3M_Trainer nnUNet_PrimusV3S_Trainer nnUNet_Primus_B_Trainer "
        "nnUNet_Primus_L_Trainer nnUNet_Primus_M_Trainer nnUNet_Primus_M_Trainer_BS8 "
        "nnUNet_Primus_M_Trainer_BS8_2e4 nnUNet_Primus_S_Trainer nnUNet_Trainer_BS8"
    )
    | {f"nnUNetTrainer_{n}epoch{'s' if n > 1 else ''}" for n in _EPOCHS}
    | {f"nnUNetTrainer_{n}epochs_NoMirroring" for n in _EPOCHS}
)
"""Trainers that nnunetv2 ships: it looks for others in folders outside its package."""
