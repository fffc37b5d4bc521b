"""Architectures of ``transformers`` in small configurations, the modules as they come: they return ``ModelOutput``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from linglos_deploy.models.factory import ModelInput
from tests.zoo.entry import Entry


def make(config: str, model: str, **options: Any) -> Callable[[], nn.Module]:
    """Return what makes a model of ``transformers`` from a configuration."""

    def build() -> nn.Module:
        import transformers

        settings = getattr(transformers, config)(**options)
        module: nn.Module = getattr(transformers, model)(settings)
        return module

    return build


def nested(
    config: str, model: str, backbone: str, backbone_options: dict[str, Any], **options: Any
) -> Callable[[], nn.Module]:
    """Return what makes a model whose configuration holds another one."""

    def build() -> nn.Module:
        import transformers

        inner = getattr(transformers, backbone)(**backbone_options)
        settings = getattr(transformers, config)(backbone_config=inner, **options)
        module: nn.Module = getattr(transformers, model)(settings)
        return module

    return build


VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
IDS = ModelInput("input_ids", ("batch", "tokens"), dtype="int64", sizes={"tokens": 10})
MASK = ModelInput("attention_mask", ("batch", "tokens"), dtype="int64", sizes={"tokens": 10})
SOUND = ModelInput("input_values", ("batch", "samples"), sizes={"samples": 800})
TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 99}
LLAMA = {**TEXT, "num_key_value_heads": 2, "use_cache": False, "max_position_embeddings": 64}


def vision(
    name: str,
    config: str,
    model: str,
    *,
    size: int = 32,
    fast: bool = False,
    limits: Mapping[str, str] | None = None,
    **options: Any,
) -> Entry:
    return Entry(name, make(config, model, **options), size=(size, size), fast=fast, limits=limits or {})


def text(name: str, config: str, model: str, **options: Any) -> Entry:
    return Entry(
        name, make(config, model, **options), inputs=(IDS, MASK), integers={"input_ids": 99, "attention_mask": 0}
    )


HUGGING_FACE = (
    vision("vit", "ViTConfig", "ViTForImageClassification", fast=True, num_labels=5, **VIT),
    vision("deit", "DeiTConfig", "DeiTForImageClassification", num_labels=5, **VIT),
    vision("beit", "BeitConfig", "BeitForImageClassification", num_labels=5, use_relative_position_bias=True, **VIT),
    vision("data2vec_vision", "Data2VecVisionConfig", "Data2VecVisionForImageClassification", num_labels=5, **VIT),
    vision("dinov2", "Dinov2Config", "Dinov2ForImageClassification", num_labels=5, **VIT),
    vision(
        "dinov2_registers",
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersForImageClassification",
        num_labels=5,
        **VIT,
    ),
    vision("vit_msn", "ViTMSNConfig", "ViTMSNForImageClassification", num_labels=5, **VIT),
    vision("ijepa", "IJepaConfig", "IJepaForImageClassification", num_labels=5, **VIT),
    vision(
        "swin",
        "SwinConfig",
        "SwinForImageClassification",
        fast=True,
        image_size=32,
        patch_size=4,
        embed_dim=16,
        depths=[1, 2],
        num_heads=[2, 4],
        window_size=4,
        num_labels=5,
    ),
    vision(
        "swinv2",
        "Swinv2Config",
        "Swinv2ForImageClassification",
        image_size=32,
        patch_size=4,
        embed_dim=16,
        depths=[1, 2],
        num_heads=[2, 4],
        window_size=4,
        num_labels=5,
    ),
    vision(
        "convnext",
        "ConvNextConfig",
        "ConvNextForImageClassification",
        hidden_sizes=[8, 16],
        depths=[1, 1],
        num_stages=2,
        num_labels=5,
    ),
    vision(
        "convnextv2",
        "ConvNextV2Config",
        "ConvNextV2ForImageClassification",
        hidden_sizes=[8, 16],
        depths=[1, 1],
        num_stages=2,
        num_labels=5,
    ),
    vision(
        "resnet",
        "ResNetConfig",
        "ResNetForImageClassification",
        fast=True,
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        num_labels=5,
    ),
    vision(
        "regnet",
        "RegNetConfig",
        "RegNetForImageClassification",
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        groups_width=4,
        num_labels=5,
    ),
    vision(
        "bit",
        "BitConfig",
        "BitForImageClassification",
        embedding_size=8,
        hidden_sizes=[16, 32],
        depths=[1, 1],
        num_groups=4,
        num_labels=5,
    ),
    vision(
        "mobilenet_v1",
        "MobileNetV1Config",
        "MobileNetV1ForImageClassification",
        depth_multiplier=0.25,
        min_depth=8,
        num_labels=5,
    ),
    vision(
        "mobilenet_v2", "MobileNetV2Config", "MobileNetV2ForImageClassification", depth_multiplier=0.25, num_labels=5
    ),
    vision(
        "mobilevit",
        "MobileViTConfig",
        "MobileViTForImageClassification",
        size=64,
        image_size=64,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 8, 16, 16, 16, 16, 32],
        num_attention_heads=4,
        num_labels=5,
    ),
    vision(
        "mobilevitv2",
        "MobileViTV2Config",
        "MobileViTV2ForImageClassification",
        size=64,
        image_size=64,
        width_multiplier=0.25,
        num_labels=5,
        limits={"engine": "Col2Im' is none"},  # TensorRT-RTX 1.7 has no Col2Im
    ),
    vision(
        "poolformer",
        "PoolFormerConfig",
        "PoolFormerForImageClassification",
        hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1],
        num_labels=5,
    ),
    vision(
        "pvt",
        "PvtConfig",
        "PvtForImageClassification",
        image_size=32,
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        num_labels=5,
    ),
    vision(
        "pvt_v2",
        "PvtV2Config",
        "PvtV2ForImageClassification",
        image_size=32,
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        num_labels=5,
    ),
    vision(
        "levit",
        "LevitConfig",
        "LevitForImageClassification",
        size=64,
        image_size=64,
        hidden_sizes=[16, 24, 32],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
        num_labels=5,
        # Random weights amplify whatever they are given: noise of -80 dB at the input is -50 dB at the output.
        limits={"int8": "logits sqnr_db", "fp16": "logits sqnr_db"},
    ),
    vision(
        "cvt",
        "CvtConfig",
        "CvtForImageClassification",
        embed_dim=[8, 16, 16],
        num_heads=[1, 2, 2],
        depth=[1, 2, 3],
        num_labels=5,
    ),
    vision(
        "focalnet",
        "FocalNetConfig",
        "FocalNetForImageClassification",
        image_size=32,
        embed_dim=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        focal_levels=[2, 2],
        focal_windows=[3, 3],
        num_labels=5,
    ),
    vision(
        "efficientnet",
        "EfficientNetConfig",
        "EfficientNetForImageClassification",
        width_coefficient=0.25,
        depth_coefficient=0.1,
        hidden_dim=320,
        num_labels=5,
        limits={"engine": "volume(windowSize) < maxKernelDimsProduct"},  # it pools with a window of hidden_dim pixels
    ),
    vision(
        "hiera",
        "HieraConfig",
        "HieraForImageClassification",
        embed_dim=16,
        image_size=[32, 32],
        patch_stride=[2, 2],
        patch_size=[3, 3],
        patch_padding=[1, 1],
        num_heads=[1, 2, 4, 8],
        depths=[1, 1, 1, 1],
        num_labels=5,
    ),
    vision(
        "segformer",
        "SegformerConfig",
        "SegformerForSemanticSegmentation",
        fast=True,
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=16,
        num_labels=5,
    ),
    vision(
        "glpn",
        "GLPNConfig",
        "GLPNForDepthEstimation",
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=16,
    ),
    vision(
        "dpt",
        "DPTConfig",
        "DPTForDepthEstimation",
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        **{**VIT, "num_hidden_layers": 4},
    ),
    vision(
        "yolos",
        "YolosConfig",
        "YolosForObjectDetection",
        num_detection_tokens=6,
        num_labels=4,
        **{**VIT, "image_size": [32, 32]},
    ),
    vision(
        "swiftformer",
        "SwiftFormerConfig",
        "SwiftFormerForImageClassification",
        image_size=32,
        depths=[1, 1, 1, 1],
        embed_dims=[8, 16, 16, 32],
        mlp_ratio=2,
        num_labels=5,
    ),
    vision(
        "textnet",
        "TextNetConfig",
        "TextNetForImageClassification",
        size=64,
        image_size=[64, 64],
        stem_num_channels=3,
        stem_out_channels=8,
        conv_layer_kernel_sizes=[[[3, 3]], [[3, 3]], [[3, 1]], [[1, 3]]],
        conv_layer_strides=[[1], [2], [2], [2]],
        hidden_sizes=[8, 8, 16, 16, 16],
        num_labels=5,
    ),
    Entry(
        "superpoint",
        make(
            "SuperPointConfig",
            "SuperPointForKeypointDetection",
            encoder_hidden_sizes=[8, 8, 16, 16],
            decoder_hidden_size=16,
            keypoint_decoder_dim=65,
            descriptor_decoder_dim=16,
        ),
        # As many keypoints as the image has: PyTorch pads those of a batch to the most, a graph for one sample cannot.
        limits={
            **dict.fromkeys(("fp32", "int8", "fp16", "dynamic"), "does not say which part belongs to which image"),
            "engine": "NonZero plugin creator version 1 was not found",
        },
    ),
    vision("clip_vision", "CLIPVisionConfig", "CLIPVisionModel", projection_dim=16, **VIT),
    vision("siglip_vision", "SiglipVisionConfig", "SiglipVisionModel", **VIT),
    vision(
        "sam_vision",
        "SamVisionConfig",
        "SamVisionModel",
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_dim=64,
        output_channels=16,
        window_size=2,
        global_attn_indexes=[1],
    ),
    vision(
        "vitdet",
        "VitDetConfig",
        "VitDetModel",
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        window_block_indices=[0],
        window_size=2,
    ),
    Entry(
        "depth_anything",
        nested(
            "DepthAnythingConfig",
            "DepthAnythingForDepthEstimation",
            "Dinov2Config",
            {
                **VIT,
                "num_hidden_layers": 4,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
                "reshape_hidden_states": False,
            },
            patch_size=8,
            reassemble_hidden_size=32,
            neck_hidden_sizes=[8, 8, 16, 16],
            fusion_hidden_size=16,
            head_hidden_size=8,
        ),
    ),
    Entry(
        "upernet",
        nested(
            "UperNetConfig",
            "UperNetForSemanticSegmentation",
            "ConvNextConfig",
            {
                "hidden_sizes": [8, 8, 16, 16],
                "depths": [1, 1, 1, 1],
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            hidden_size=16,
            use_auxiliary_head=False,
            num_labels=5,
        ),
        size=(64, 64),
    ),
    Entry(
        "detr",
        nested(
            "DetrConfig",
            "DetrForObjectDetection",
            "ResNetConfig",
            {
                "embedding_size": 8,
                "hidden_sizes": [8, 16],
                "depths": [1, 1],
                "layer_type": "basic",
                "out_features": ["stage2"],
            },
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_queries=6,
            num_labels=4,
        ),
    ),
    Entry(
        "conditional_detr",
        nested(
            "ConditionalDetrConfig",
            "ConditionalDetrForObjectDetection",
            "ResNetConfig",
            {
                "embedding_size": 8,
                "hidden_sizes": [8, 16],
                "depths": [1, 1],
                "layer_type": "basic",
                "out_features": ["stage2"],
            },
            use_timm_backbone=False,
            use_pretrained_backbone=False,
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_queries=6,
            num_labels=4,
        ),
    ),
    Entry(
        "rt_detr",
        nested(
            "RTDetrConfig",
            "RTDetrForObjectDetection",
            "RTDetrResNetConfig",
            {
                "embedding_size": 8,
                "hidden_sizes": [8, 8, 16, 16],
                "depths": [1, 1, 1, 1],
                "layer_type": "basic",
                "out_features": ["stage2", "stage3", "stage4"],
            },
            encoder_in_channels=[8, 16, 16],
            encoder_hidden_dim=16,
            encoder_ffn_dim=32,
            encoder_attention_heads=4,
            d_model=16,
            decoder_in_channels=[16, 16, 16],
            decoder_ffn_dim=32,
            decoder_attention_heads=4,
            decoder_layers=2,
            num_queries=6,
            num_denoising=0,
            num_labels=4,
        ),
        size=(64, 64),
        # Queries are the best of a top-k: scores of random weights differ by less than a rounding (0.0009 of 1.5 in the
        # closest pair), so that queries change places. Noise of -40 dB at the input does the same to PyTorch.
        limits={"int8": "enc_topk_logits", "fp16": "enc_topk_logits"},
    ),
    Entry(
        "d_fine",
        nested(
            "DFineConfig",
            "DFineForObjectDetection",
            "HGNetV2Config",
            {
                "embedding_size": 8,
                "hidden_sizes": [8, 8, 16, 16],
                "depths": [1, 1, 1, 1],
                "stem_channels": [3, 4, 8],
                "stage_in_channels": [8, 8, 8, 16],
                "stage_mid_channels": [4, 4, 8, 8],
                "stage_out_channels": [8, 8, 16, 16],
                "stage_num_blocks": [1, 1, 1, 1],
                "stage_numb_of_layers": [1, 1, 1, 1],
                "out_features": ["stage2", "stage3", "stage4"],
            },
            encoder_in_channels=[8, 16, 16],
            encoder_hidden_dim=16,
            encoder_ffn_dim=32,
            encoder_attention_heads=4,
            d_model=16,
            decoder_in_channels=[16, 16, 16],
            decoder_ffn_dim=32,
            decoder_attention_heads=4,
            decoder_layers=2,
            num_queries=6,
            decoder_n_points=[2, 2, 2],
            num_denoising=0,
            num_labels=4,
            feat_strides=[8, 16, 32],
        ),
        size=(64, 64),
        # As RT-DETR: float16 moves scores by 0.003 and swaps two of six queries in one of five images, INT8 moves them
        # by 0.1, where neighbours lie 0.02 apart, and swaps some in four of five.
        limits={"int8": "enc_topk_bboxes", "fp16": "enc_topk_logits"},
    ),
    Entry(
        "mask2former",
        nested(
            "Mask2FormerConfig",
            "Mask2FormerForUniversalSegmentation",
            "SwinConfig",
            {
                "image_size": 64,
                "patch_size": 4,
                "embed_dim": 8,
                "depths": [1, 1, 1, 1],
                "num_heads": [1, 2, 2, 2],
                "window_size": 2,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            encoder_feedforward_dim=32,
            dim_feedforward=32,
            encoder_layers=1,
            decoder_layers=2,
            num_attention_heads=4,
            num_queries=6,
            num_labels=4,
        ),
        size=(64, 64),
    ),
    Entry(
        "wav2vec2",
        make(
            "Wav2Vec2Config",
            "Wav2Vec2ForCTC",
            conv_dim=[8, 8],
            conv_kernel=[10, 4],
            conv_stride=[5, 2],
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=4,
            **{**TEXT, "vocab_size": 12},
        ),
        inputs=(SOUND,),
    ),
    Entry(
        "hubert",
        make(
            "HubertConfig",
            "HubertModel",
            conv_dim=[8, 8],
            conv_kernel=[10, 4],
            conv_stride=[5, 2],
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=4,
            **{**TEXT, "vocab_size": 12},
        ),
        inputs=(SOUND,),
    ),
    Entry(
        "whisper_encoder",
        make(
            "WhisperConfig",
            "WhisperForAudioClassification",
            d_model=32,
            encoder_layers=2,
            encoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_layers=1,
            decoder_attention_heads=4,
            num_mel_bins=12,
            max_source_positions=20,
            vocab_size=99,
            num_labels=5,
            classifier_proj_size=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        ),
        inputs=(ModelInput("input_features", ("batch", 12, 40)),),
    ),
    text("bert", "BertConfig", "BertForSequenceClassification", num_labels=5, **TEXT),
    text("roberta", "RobertaConfig", "RobertaForTokenClassification", num_labels=5, **TEXT),
    text(
        "distilbert",
        "DistilBertConfig",
        "DistilBertForSequenceClassification",
        num_labels=5,
        dim=32,
        n_layers=2,
        n_heads=4,
        hidden_dim=64,
        vocab_size=99,
    ),
    text("electra", "ElectraConfig", "ElectraModel", embedding_size=16, **TEXT),
    text("mpnet", "MPNetConfig", "MPNetModel", **TEXT),
    text(
        "gpt2",
        "GPT2Config",
        "GPT2LMHeadModel",
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=32,
        vocab_size=99,
        use_cache=False,
    ),
    text("gpt_neox", "GPTNeoXConfig", "GPTNeoXForCausalLM", max_position_embeddings=64, use_cache=False, **TEXT),
    text("llama", "LlamaConfig", "LlamaForCausalLM", **LLAMA),
    text("qwen2", "Qwen2Config", "Qwen2ForCausalLM", **LLAMA),
    text("mistral", "MistralConfig", "MistralModel", **LLAMA),
)
