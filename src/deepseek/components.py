"""The table of built-in components: family → (contract, name → import string).

Only strings stand here, so that a name costs nothing until it is used and this file needs no place in the order of packages.
"""

from __future__ import annotations

_SEARCH = "deepseek.search"
_ALARMS = "deepseek.monitoring.alarms"
_SOURCES = "deepseek.data.sources"
_STREAMS = "deepseek.data.streams"
_SYNTHESIS = "deepseek.data.synthesis"
_CHECKS = "deepseek.data.checks"
_CLEANING = "deepseek.data.cleaning"
_TRANSFORMS = "deepseek.data.transforms"
_TARGETS = "deepseek.data.targets"
_AUGMENT = "deepseek.data.augment"
_EXCHANGE = "deepseek.distributed.exchange"
_ENCODERS = "deepseek.models.encoders"
_FUSION = "deepseek.models.fusion"
_TRUNKS = "deepseek.models.trunks"
_OPERATORS = "deepseek.models.operators"
_FORECASTING = "deepseek.models.forecasting"
_TASKS = "deepseek.tasks"
_CLIPPINGS = "deepseek.optim.clippings"
_CALLBACKS = "deepseek.training.callbacks"
_BACKENDS = "deepseek.inference.backends"
_EXPORTERS = "deepseek.exporters"

FAMILIES: dict[str, tuple[str, dict[str, str]]] = {
    "search": (
        f"{_SEARCH}.base:Search",
        {
            "grid": f"{_SEARCH}.searches:GridSearch",
            "random": f"{_SEARCH}.searches:RandomSearch",
            "tpe": f"{_SEARCH}.searches:TpeSearch",
            "gp": f"{_SEARCH}.searches:GpSearch",
            "hybrid": f"{_SEARCH}.hybrid:HybridSearch",
        },
    ),
    "pruner": (
        f"{_SEARCH}.base:Pruner",
        {
            "none": f"{_SEARCH}.pruners:NoPruner",
            "median": f"{_SEARCH}.pruners:MedianPruner",
            "asha": f"{_SEARCH}.pruners:AshaPruner",
        },
    ),
    "alarm": (
        f"{_ALARMS}.base:Alarm",
        {
            "webhook": f"{_ALARMS}.webhook:WebhookAlarm",
            "file": f"{_ALARMS}.file:FileAlarm",
            "command": f"{_ALARMS}.command:CommandAlarm",
        },
    ),
    "detector": (
        "deepseek.statistics.detectors:Detector",
        {
            "adwin": "deepseek.statistics.detectors:Adwin",
            "ddm": "deepseek.statistics.detectors:Ddm",
            "page_hinkley": "deepseek.statistics.detectors:PageHinkley",
        },
    ),
    "source": (
        f"{_SOURCES}.base:Source",
        {
            "csv": f"{_SOURCES}.csv:CsvSource",
            "corpus": f"{_SOURCES}.corpus:CorpusSource",
            "json": f"{_SOURCES}.json:JsonSource",
            "jsonl": f"{_SOURCES}.json:JsonLinesSource",
            "parquet": f"{_SOURCES}.parquet:ParquetSource",
            "arrow": f"{_SOURCES}.arrow:ArrowSource",
            "npz": f"{_SOURCES}.npz:NpzSource",
            "folder": f"{_SOURCES}.folder:FolderSource",
            "sql": f"{_SOURCES}.sql.source:SqlSource",
            "coco": f"{_SOURCES}.coco:CocoSource",
            "box_files": f"{_SOURCES}.box_files:BoxFilesSource",
            "hugging_face": f"{_SOURCES}.hub:HuggingFaceSource",
            "ingest": f"{_SOURCES}.ingested.source:IngestSource",
            "masks": f"{_SOURCES}.masks:MasksSource",
            "label_studio": f"{_SOURCES}.label_studio:LabelStudioSource",
            "interactions": f"{_SOURCES}.interactions:InteractionSource",
            "related_tables": f"{_SOURCES}.related_tables:RelatedTablesSource",
            "stream": f"{_SOURCES}.stream:StreamSource",
            "kafka": f"{_SOURCES}.stream:KafkaSource",
            "pulsar": f"{_SOURCES}.stream:PulsarSource",
        },
    ),
    "stream": (
        f"{_STREAMS}.base:Stream",
        {
            "lines": f"{_STREAMS}.lines:LinesStream",
            "kafka": f"{_STREAMS}.kafka:KafkaStream",
            "pulsar": f"{_STREAMS}.pulsar:PulsarStream",
        },
    ),
    "decoder": (
        f"{_STREAMS}.decoders:Decoder",
        {
            "json": f"{_STREAMS}.decoders:JsonDecoder",
            "text": f"{_STREAMS}.decoders:TextDecoder",
            "raw": f"{_STREAMS}.decoders:RawDecoder",
        },
    ),
    "aggregation": (
        f"{_SYNTHESIS}.aggregations.base:Aggregation",
        {
            "count": f"{_SYNTHESIS}.aggregations.numbers:CountAggregation",
            "sum": f"{_SYNTHESIS}.aggregations.numbers:SumAggregation",
            "mean": f"{_SYNTHESIS}.aggregations.numbers:MeanAggregation",
            "min": f"{_SYNTHESIS}.aggregations.numbers:MinAggregation",
            "max": f"{_SYNTHESIS}.aggregations.numbers:MaxAggregation",
            "std": f"{_SYNTHESIS}.aggregations.numbers:StdAggregation",
            "skew": f"{_SYNTHESIS}.aggregations.numbers:SkewAggregation",
            "median": f"{_SYNTHESIS}.aggregations.choices:MedianAggregation",
            "first": f"{_SYNTHESIS}.aggregations.choices:FirstAggregation",
            "last": f"{_SYNTHESIS}.aggregations.choices:LastAggregation",
            "mode": f"{_SYNTHESIS}.aggregations.choices:ModeAggregation",
            "n_unique": f"{_SYNTHESIS}.aggregations.choices:UniqueAggregation",
            "n_true": f"{_SYNTHESIS}.aggregations.numbers:TrueCountAggregation",
            "percent_true": f"{_SYNTHESIS}.aggregations.numbers:TrueShareAggregation",
            "time_since_first": f"{_SYNTHESIS}.aggregations.choices:TimeSinceFirstAggregation",
            "time_since_last": f"{_SYNTHESIS}.aggregations.choices:TimeSinceLastAggregation",
        },
    ),
    "derivation": (
        f"{_SYNTHESIS}.derivations:Derivation",
        {
            "year": f"{_SYNTHESIS}.derivations:YearDerivation",
            "month": f"{_SYNTHESIS}.derivations:MonthDerivation",
            "day": f"{_SYNTHESIS}.derivations:DayDerivation",
            "weekday": f"{_SYNTHESIS}.derivations:WeekdayDerivation",
            "hour": f"{_SYNTHESIS}.derivations:HourDerivation",
            "is_weekend": f"{_SYNTHESIS}.derivations:WeekendDerivation",
            "time_since": f"{_SYNTHESIS}.derivations:TimeSinceDerivation",
            "absolute": f"{_SYNTHESIS}.derivations:AbsoluteDerivation",
        },
    ),
    "check": (
        f"{_CHECKS}.base:Check",
        {
            "required": f"{_CHECKS}.required:RequiredCheck",
            "type": f"{_CHECKS}.type:TypeCheck",
            "range": f"{_CHECKS}.range:RangeCheck",
            "regex": f"{_CHECKS}.regex:RegexCheck",
            "in_set": f"{_CHECKS}.in_set:InSetCheck",
            "unique": f"{_CHECKS}.unique:UniqueCheck",
            "foreign_key": f"{_CHECKS}.foreign_key:ForeignKeyCheck",
            "expression": f"{_CHECKS}.expression:ExpressionCheck",
            "freshness": f"{_CHECKS}.freshness:FreshnessCheck",
        },
    ),
    "cleaner": (
        f"{_CLEANING}.base:Cleaner",
        {
            "missing": f"{_CLEANING}.missing:MissingCleaner",
            "outliers": f"{_CLEANING}.outliers:OutlierCleaner",
            "text": f"{_CLEANING}.text:TextCleaner",
            "duplicates": f"{_CLEANING}.duplicates:DuplicateCleaner",
        },
    ),
    "transform": (
        f"{_TRANSFORMS}.base:Transform",
        {
            "number": f"{_TRANSFORMS}.number:NumberTransform",
            "category": f"{_TRANSFORMS}.category:CategoryTransform",
            "timestamp": f"{_TRANSFORMS}.timestamp:TimestampTransform",
            "image": f"{_TRANSFORMS}.image:ImageTransform",
            "volume": f"{_TRANSFORMS}.volume:VolumeTransform",
            "text": f"{_TRANSFORMS}.text:TextTransform",
            "text_pretrained": f"{_TRANSFORMS}.text_pretrained:PretrainedTextTransform",
            "audio": f"{_TRANSFORMS}.audio:AudioTransform",
            "series": f"{_TRANSFORMS}.series:SeriesTransform",
            "tokens": f"{_TRANSFORMS}.tokens:TokensTransform",
            "words": f"{_TRANSFORMS}.words:WordsTransform",
        },
    ),
    "target": (
        f"{_TARGETS}.base:TargetTransform",
        {
            "binary": f"{_TARGETS}.plain:BinaryTarget",
            "classes": f"{_TARGETS}.plain:ClassesTarget",
            "labels": f"{_TARGETS}.plain:LabelsTarget",
            "values": f"{_TARGETS}.plain:ValuesTarget",
            "tokens": f"{_TARGETS}.tokens:TokensTarget",
            "tags": f"{_TARGETS}.tags:TagsTarget",
            "features": f"{_TARGETS}.features:FeaturesTarget",
            "boxes": f"{_TARGETS}.boxes:BoxesTarget",
            "mask": f"{_TARGETS}.mask:MaskTarget",
        },
    ),
    "augmentation": (
        f"{_AUGMENT}.base:Augmentation",
        {
            "flip": f"{_AUGMENT}.flip:Flip",
            "shift": f"{_AUGMENT}.shift:Shift",
            "erase": f"{_AUGMENT}.erase:Erase",
            "rotate90": f"{_AUGMENT}.rotate90:Rotate90",
            "affine": f"{_AUGMENT}.affine:Affine",
            "rotate": f"{_AUGMENT}.affine:Rotate",
            "scale": f"{_AUGMENT}.affine:Scale",
            "crop": f"{_AUGMENT}.affine:Crop",
            "patch": f"{_AUGMENT}.patch:Patch",
            "color_jitter": f"{_AUGMENT}.color:ColorJitter",
            "grayscale": f"{_AUGMENT}.color:Grayscale",
            "noise": f"{_AUGMENT}.noise:Noise",
            "blur": f"{_AUGMENT}.blur:Blur",
            "mixup": f"{_AUGMENT}.mixing:MixUp",
            "cutmix": f"{_AUGMENT}.mixing:CutMix",
            "mosaic": f"{_AUGMENT}.mosaic:Mosaic",
            "one_of": f"{_AUGMENT}.one_of:OneOf",
            "image_augmenter": f"{_AUGMENT}.image_augmenter:ImageAugmenter",
            "eda": f"{_AUGMENT}.eda:Eda",
            "back_translation": f"{_AUGMENT}.paraphrases:BackTranslation",
            "clause_swap": f"{_AUGMENT}.paraphrases:ClauseSwap",
            "audio_noise": f"{_AUGMENT}.audio:AudioNoise",
            "audio_shift": f"{_AUGMENT}.audio:AudioShift",
            "gain": f"{_AUGMENT}.audio:Gain",
            "spec_augment": f"{_AUGMENT}.audio:SpecAugment",
            "jitter": f"{_AUGMENT}.series:Jitter",
            "magnitude_warp": f"{_AUGMENT}.series:MagnitudeWarp",
            "time_warp": f"{_AUGMENT}.series:TimeWarp",
            "window_slice": f"{_AUGMENT}.series:WindowSlice",
            "window_warp": f"{_AUGMENT}.series:WindowWarp",
            "permute": f"{_AUGMENT}.series:Permute",
        },
    ),
    "embedding": (
        "deepseek.models.embeddings:NumericEmbedding",
        {
            "linear": "deepseek.models.embeddings:LinearEmbedding",
            "periodic": "deepseek.models.embeddings:PeriodicEmbedding",
            "piecewise": "deepseek.models.embeddings:PiecewiseEmbedding",
            "identity": "deepseek.models.embeddings:IdentityEmbedding",
        },
    ),
    "encoder": (
        "deepseek.models.base:Encoder",
        {
            "table": f"{_ENCODERS}.table:TableEncoder",
            "nothing": f"{_ENCODERS}.nothing:NothingEncoder",
            "cnn": f"{_ENCODERS}.cnn:CnnEncoder",
            "resnet": f"{_ENCODERS}.resnet:ResNetEncoder",
            "efficientnet": f"{_ENCODERS}.efficientnet:EfficientNetEncoder",
            "parallel": f"{_ENCODERS}.parallel:ParallelEncoder",
            "text_bag": f"{_ENCODERS}.text_bag:TextBagEncoder",
            "text_cnn": f"{_ENCODERS}.text_cnn:TextCnnEncoder",
            "text_rnn": f"{_ENCODERS}.text_rnn:TextRnnEncoder",
            "series_rnn": f"{_ENCODERS}.series_rnn:SeriesRnnEncoder",
            "series_cnn": f"{_ENCODERS}.series_cnn:SeriesCnnEncoder",
            "text_transformer": f"{_ENCODERS}.text_transformer:TextTransformerEncoder",
            "text_pretrained": f"{_ENCODERS}.text_pretrained:PretrainedTextEncoder",
            "text_decoder": f"{_ENCODERS}.text_decoder:TextDecoderEncoder",
            "transformer_xl": f"{_ENCODERS}.transformer_xl:TransformerXlEncoder",
            "image_timm": f"{_ENCODERS}.image_timm:TimmEncoder",
            "keras": "deepseek.models.keras.encoder:KerasEncoder",
            "audio_cnn": f"{_ENCODERS}.audio_cnn:AudioCnnEncoder",
            "audio_rnn": f"{_ENCODERS}.audio_rnn:AudioRnnEncoder",
        },
    ),
    "fusion": (
        "deepseek.models.base:Fusion",
        {
            "concat": f"{_FUSION}.concat:ConcatFusion",
            "gated": f"{_FUSION}.gated:GatedFusion",
            "cross_attention": f"{_FUSION}.cross_attention:CrossAttentionFusion",
            "late": f"{_FUSION}.late:LateFusion",
        },
    ),
    "trunk": (
        "deepseek.models.base:Trunk",
        {
            "mlp": f"{_TRUNKS}.mlp:MlpTrunk",
            "residual": f"{_TRUNKS}.residual:ResidualTrunk",
            "tabm": f"{_TRUNKS}.tabm:TabMTrunk",
            "identity": f"{_TRUNKS}.identity:IdentityTrunk",
            "operators": f"{_TRUNKS}.operators:OperatorsTrunk",
        },
    ),
    "operator": (
        f"{_OPERATORS}.base:Operator",
        {
            "squared_relu": f"{_OPERATORS}.squared_relu:SquaredReluOperator",
            "geglu": f"{_OPERATORS}.geglu:GegluOperator",
        },
    ),
    "model": (
        "deepseek.models.network:FeatureNetwork",
        {
            "network": "deepseek.models.network:Network",
            "mlp": "deepseek.models.presets.table:MlpModel",
            "residual": "deepseek.models.presets.table:ResidualModel",
            "tabm": "deepseek.models.presets.table:TabMModel",
            "wide_deep": "deepseek.models.presets.wide_deep:WideDeepModel",
            "cnn": "deepseek.models.presets.image:CnnModel",
            "resnet": "deepseek.models.presets.image:ResNetModel",
            "efficientnet": "deepseek.models.presets.image:EfficientNetModel",
            "detector": "deepseek.models.detector:DetectorModel",
            "text_bag": "deepseek.models.presets.text:TextBagModel",
            "text_cnn": "deepseek.models.presets.text:TextCnnModel",
            "text_rnn": "deepseek.models.presets.text:TextRnnModel",
            "text_transformer": "deepseek.models.presets.text:TextTransformerModel",
            "text_pretrained": "deepseek.models.presets.pretrained:PretrainedTextModel",
            "image_timm": "deepseek.models.presets.pretrained:TimmModel",
            "text_sequence": "deepseek.models.sequence:SequenceNetwork",
            "transformer_xl": "deepseek.models.presets.language:TransformerXlModel",
            "text_decoder": "deepseek.models.presets.language:TextDecoderModel",
            "unet": "deepseek.models.maps.unet:UNetModel",
            "unet3d": "deepseek.models.maps.unet:UNet3dModel",
            "dlinear": f"{_FORECASTING}.linear:DLinear",
            "nlinear": f"{_FORECASTING}.linear:NLinear",
            "series_rnn": f"{_FORECASTING}.recurrent:SeriesRnn",
            "tft": f"{_FORECASTING}.tft:TemporalFusionTransformer",
            "audio_cnn": "deepseek.models.presets.audio:AudioCnnModel",
            "audio_rnn": "deepseek.models.presets.audio:AudioRnnModel",
            "keras": "deepseek.models.presets.keras:KerasModel",
        },
    ),
    "loss": (
        "deepseek.tasks.losses:Loss",
        {
            "cross_entropy": "deepseek.tasks.losses:CrossEntropyLoss",
            "binary_cross_entropy": "deepseek.tasks.losses:BinaryCrossEntropyLoss",
            "focal": "deepseek.tasks.losses:FocalLoss",
            "mse": "deepseek.tasks.losses:MeanSquaredLoss",
            "mae": "deepseek.tasks.losses:MeanAbsoluteLoss",
            "huber": "deepseek.tasks.losses:HuberLoss",
            "dice": "deepseek.tasks.mask_losses:DiceLoss",
            "dice_cross_entropy": "deepseek.tasks.mask_losses:DiceCrossEntropyLoss",
            "quantile": "deepseek.tasks.losses:QuantileLoss",
        },
    ),
    "metric": (
        "deepseek.tasks.metrics:Metric",
        {
            "loss": "deepseek.tasks.metrics:MeanLoss",
            "accuracy": "deepseek.tasks.metrics:Accuracy",
            "balanced_accuracy": "deepseek.tasks.metrics:BalancedAccuracy",
            "auc": "deepseek.tasks.metrics:AreaUnderCurve",
            "f1": "deepseek.tasks.metrics:F1",
            "log_loss": "deepseek.tasks.metrics:LogLoss",
            "brier": "deepseek.tasks.metrics:Brier",
            "rmse": "deepseek.tasks.metrics:RootMeanSquaredError",
            "mae": "deepseek.tasks.metrics:MeanAbsoluteError",
            "r2": "deepseek.tasks.metrics:R2",
            "bits_per_character": f"{_TASKS}.sequence_metrics:BitsPerCharacter",
            "perplexity": f"{_TASKS}.sequence_metrics:Perplexity",
            "token_accuracy": f"{_TASKS}.sequence_metrics:TokenAccuracy",
            "span_f1": f"{_TASKS}.sequence_metrics:SpanF1",
            "map": "deepseek.tasks.detection_metrics:MeanAveragePrecision",
            "map50": "deepseek.tasks.detection_metrics:AveragePrecision",
            "box_recall": "deepseek.tasks.detection_metrics:BoxRecall",
            "miss_rate": "deepseek.tasks.detection_metrics:MissRate",
            "dice": "deepseek.tasks.mask_metrics:Dice",
            "iou": "deepseek.tasks.mask_metrics:IntersectionOverUnion",
            "pixel_accuracy": "deepseek.tasks.mask_metrics:PixelAccuracy",
            "scaled_mse": "deepseek.tasks.forecast_metrics:ScaledSquaredError",
            "scaled_mae": "deepseek.tasks.forecast_metrics:ScaledAbsoluteError",
            "mase": "deepseek.tasks.forecast_metrics:MeanAbsoluteScaledError",
            "pinball": "deepseek.tasks.forecast_metrics:Pinball",
            "coverage": "deepseek.tasks.forecast_metrics:Coverage",
        },
    ),
    "task": (
        f"{_TASKS}.base:Task",
        {
            "binary": f"{_TASKS}.binary:BinaryTask",
            "multiclass": f"{_TASKS}.multiclass:MulticlassTask",
            "multilabel": f"{_TASKS}.multilabel:MultilabelTask",
            "regression": f"{_TASKS}.regression:RegressionTask",
            "language_modelling": f"{_TASKS}.language_modelling:LanguageModellingTask",
            "sequence_labelling": f"{_TASKS}.sequence_labelling:SequenceLabellingTask",
            "embedding": f"{_TASKS}.embedding:EmbeddingTask",
            "detection": f"{_TASKS}.detection:DetectionTask",
            "segmentation": f"{_TASKS}.segmentation:SegmentationTask",
            "forecasting": f"{_TASKS}.forecasting:ForecastingTask",
        },
    ),
    "exchange": (
        f"{_EXCHANGE}.base:Exchange",
        {
            "all_reduce": f"{_EXCHANGE}.all_reduce:AllReduceExchange",
            "fp16": f"{_EXCHANGE}.short_floats:Fp16Exchange",
            "bf16": f"{_EXCHANGE}.short_floats:Bf16Exchange",
            "qsgd": f"{_EXCHANGE}.qsgd:QsgdExchange",
            "power_sgd": f"{_EXCHANGE}.power_sgd:PowerSgdExchange",
            "hierarchical": f"{_EXCHANGE}.hierarchical:HierarchicalExchange",
            "parameter_server": f"{_EXCHANGE}.parameter_server:ParameterServerExchange",
        },
    ),
    "optimizer": (
        "deepseek.optim.optimizers:OptimizerSpec",
        {
            "adam": "deepseek.optim.optimizers:Adam",
            "adamw": "deepseek.optim.optimizers:AdamW",
            "sgd": "deepseek.optim.optimizers:Sgd",
            "rmsprop": "deepseek.optim.optimizers:RmsProp",
            "adagrad": "deepseek.optim.optimizers:Adagrad",
            "nadam": "deepseek.optim.optimizers:NAdam",
            "radam": "deepseek.optim.optimizers:RAdam",
        },
    ),
    "strategy": (
        "deepseek.distributed.strategies.base:Strategy",
        {
            "auto": "deepseek.distributed.strategies.automatic:Automatic",
            "ddp": "deepseek.distributed.strategies.ddp:DataParallel",
            "fsdp": "deepseek.distributed.strategies.fsdp:FullySharded",
            "tensor": "deepseek.distributed.strategies.tensor:TensorParallel",
            "pipeline": "deepseek.distributed.strategies.pipeline:PipelineParallel",
            "horovod": "deepseek.distributed.strategies.horovod:Horovod",
        },
    ),
    "schedule": (
        "deepseek.optim.schedules:Schedule",
        {
            "constant": "deepseek.optim.schedules:ConstantSchedule",
            "cosine": "deepseek.optim.schedules:CosineSchedule",
            "step": "deepseek.optim.schedules:StepSchedule",
            "one_cycle": "deepseek.optim.schedules:OneCycleSchedule",
            "linear": "deepseek.optim.schedules:LinearSchedule",
            "plateau": "deepseek.optim.schedules:PlateauSchedule",
        },
    ),
    "clipping": (
        f"{_CLIPPINGS}.base:Clipping",
        {
            "norm": f"{_CLIPPINGS}.fixed:NormClipping",
            "value": f"{_CLIPPINGS}.fixed:ValueClipping",
            "autoclip": f"{_CLIPPINGS}.auto:AutoClipping",
            "agc": f"{_CLIPPINGS}.agc:AgcClipping",
            "zclip": f"{_CLIPPINGS}.zclip:ZClipping",
            "skip_spikes": f"{_CLIPPINGS}.spikes:SpikeSkipping",
        },
    ),
    "layer_rates": (
        "deepseek.optim.layer_rates.base:LayerRates",
        {"gradient_variance": "deepseek.optim.layer_rates.gradient_variance:GradientVariance"},
    ),
    "callback": (
        f"{_CALLBACKS}.base:Callback",
        {
            "early_stopping": f"{_CALLBACKS}.early_stopping:EarlyStopping",
            "json_lines": f"{_CALLBACKS}.json_lines:JsonLines",
            "tensorboard": f"{_CALLBACKS}.tensorboard:TensorBoard",
            "wandb": f"{_CALLBACKS}.wandb:WeightsAndBiases",
            "mlflow": f"{_CALLBACKS}.mlflow:MLflow",
            "progress": f"{_CALLBACKS}.progress:ProgressBar",
            "time_limit": f"{_CALLBACKS}.time_limit:TimeLimit",
            "trial": f"{_CALLBACKS}.trial:TrialReport",
        },
    ),
    "backend": (
        f"{_BACKENDS}.base:Backend",
        {
            "torch": f"{_BACKENDS}.torch:TorchBackend",
            "onnxruntime": f"{_BACKENDS}.onnxruntime:OnnxRuntimeBackend",
            "openvino": f"{_BACKENDS}.openvino:OpenVinoBackend",
        },
    ),
    "exporter": (
        f"{_EXPORTERS}.base:Exporter",
        {
            "onnx": f"{_EXPORTERS}.onnx:OnnxExporter",
            "openvino": f"{_EXPORTERS}.openvino:OpenVinoExporter",
            "tensorrt": f"{_EXPORTERS}.tensorrt:TensorRtExporter",
            "torch": f"{_EXPORTERS}.torch:TorchExporter",
        },
    ),
}
