"""The ``nas_*`` tables as they are now; how older ones become these is `migrations`."""

from __future__ import annotations

import sqlalchemy as sa

tables = sa.MetaData()
version_table = sa.Table("nas_version", tables, sa.Column("number", sa.Integer, primary_key=True))
study_table = sa.Table(
    "nas_study",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("exhausted", sa.Boolean, nullable=False, default=False),
)
evaluation_table = sa.Table(
    "nas_evaluation",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.ForeignKey("nas_study.id"), nullable=False, index=True),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("architecture", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("killed", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("val_accuracy", sa.Float),
    sa.Column("curve", sa.Text, nullable=False),
    sa.Column("stopped", sa.Text),
    sa.Column("params", sa.BigInteger, nullable=False),
    sa.Column("macs", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("device", sa.String(100), nullable=False),
    sa.Column("threads", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(200), nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float, nullable=False),
    sa.Column("space", sa.String(64)),
    sa.Column("dataset", sa.String(64)),
    sa.Column("split", sa.String(64)),
    sa.Column("recipe", sa.String(64)),
    sa.Column("versions", sa.Text),
    sa.Column("coordinates", sa.Text),
    sa.Column("source", sa.Text),
    sa.UniqueConstraint("study", "trial"),
    sa.Index("ix_nas_evaluation_key_recipe", "key", "recipe"),
)
claim_table = sa.Table(
    "nas_claim",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.ForeignKey("nas_study.id"), nullable=False, index=True),
    sa.Column("key", sa.String(64)),
    sa.Column("trial", sa.Integer),
    sa.Column("worker", sa.String(200), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.UniqueConstraint("study", "key"),
)
worker_table = sa.Table(
    "nas_worker",
    tables,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("study", sa.ForeignKey("nas_study.id"), nullable=False, index=True),
    sa.Column("host", sa.String(200), nullable=False),
    sa.Column("lock", sa.Text, nullable=False),
    sa.Column("beat_at", sa.Float, nullable=False),
)
