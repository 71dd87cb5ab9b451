"""The report of a run: dense against pruned, in a table a person can read."""

from dataclasses import dataclass
from typing import Any

from tf_synflow.tables import table
from tf_synflow.train.config import TrainConfig


@dataclass(frozen=True)
class Report:
    """What a run found; `str()` is the table, `to_dict()` the same for machines."""

    values: dict[str, Any]
    layers: str
    export: str

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        data: Any,
        folder: Any,
        summary: Any,
        trained: Any,
        dense: Any,
        exported: Any,
        exported_dense: Any,
    ) -> "Report":
        """Collects the report of a finished run; what was not asked for is None."""
        mean, deviation = data.normalisation
        values = {
            "config": config.__dict__,
            "data": data.provenance,
            "normalisation": {"mean": mean.tolist(), "deviation": deviation.tolist()},
            "output_dir": str(folder.path),
            "pruned" if summary else "dense": _network(trained),
        }
        if dense is not None:
            values["dense"] = _network(dense)
        if summary is not None:
            values["masks"] = summary.to_dict()
        if exported is not None:
            values["export"] = exported.to_dict()
            values["pruned" if summary else "dense"]["file_bytes"] = exported.file_bytes
        if exported_dense is not None:
            values["dense"]["file_bytes"] = exported_dense.file_bytes
        return cls(values, str(summary or ""), str(exported or ""))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python values."""
        return self.values

    def __str__(self) -> str:
        config = self.values["config"]
        networks = [name for name in ("dense", "pruned") if name in self.values]
        rows = [
            ("", *networks),
            ("test accuracy", *(f"{self.values[n]['accuracy']:.2%}" for n in networks)),
            ("best epoch's", *(f"{self.values[n]['best_accuracy']:.2%}" for n in networks)),
            ("weights", *(f"{self.values[n]['weights']:,}" for n in networks)),
            ("training, s", *(f"{self.values[n]['seconds']:.0f}" for n in networks)),
        ]
        if "export" in self.values:
            sizes = (self.values[name]["file_bytes"] for name in networks)
            rows.append(("TFLite file, bytes", *(f"{size:,}" for size in sizes)))
        parts = [
            f"{config['model']} on {config['data']}, {config['scorer']} "
            f"{config['compression']:g}x, {config['epochs']} epochs, seed {config['seed']}",
            "\n".join(table(rows)),
        ]
        if self.layers:
            parts.append(self.layers)
        if self.export:
            parts.append(self.export)
        parts.append(f"Data: {self.values['data']}\nEverything is in {self.values['output_dir']}")
        return "\n\n".join(parts)


def _network(trained) -> dict[str, Any]:
    return {
        "accuracy": trained.accuracy,
        "best_accuracy": max((line["test_accuracy"] or 0.0) for line in trained.epochs),
        "weights": trained.weights,
        "seconds": sum(line["seconds"] for line in trained.epochs),
        "epochs": len(trained.epochs),
    }
