"""A quick search and a quick study."""

TUNE, CRITICAL, COST = (f"digits_sweep.{name}" for name in ("tune", "critical_batch_size", "cost"))
QUICK = (
    "data=mnist_sample",
    "data.batch_size=100",
    "trainer.num_epochs=4",
    "trainer.loss_threshold=2.2",
    "tune.study=s",
    "tune.seeds=1",
    "tune.confirm=0",
)
STUDY = (
    "data=mnist_sample", "data.batch_size=100,400", "model.hidden_size=16", "evaluation.targets.train_error=[0.5]",
    "evaluation.train_samples=300", "evaluation.test_samples=50", "evaluation.per_doubling=3", "trainer.num_epochs=2",
    "critical.lr=8e-3", "critical.seeds=1", "critical.confirm=2", "critical.most_steps=1",
)  # fmt: skip
