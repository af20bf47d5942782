"""fastai's way: the study's network with its DataBlock and Learner.

    python benchmarks/with_fastai.py --root "$CELEBA_ROOT" --json fastai.json

`celeba-nb bench --peers fastai` runs this file beside the package; it needs the extra `bench`.
"""
import io
import time
from functools import partial

import torch
from common import arguments, chosen_images, report
from fastai.basics import Callback, DataBlock, IndexSplitter, Learner, MultiCategoryBlock, OptimWrapper
from fastai.callback.progress import ProgressCallback  # noqa: F401  (gives the Learner its no_bar)
from fastai.losses import BCEWithLogitsLossFlat
from fastai.metrics import accuracy_multi
from fastai.vision.augment import FlipItem, Resize, ResizeMethod
from fastai.vision.core import PILImage
from fastai.vision.data import ImageBlock, Normalize
from naive import make_net


class TrainingTime(Callback):
    "Seconds in the training half of the epochs."

    seconds = 0.0

    def before_train(self):
        self.began = time.perf_counter()

    def after_train(self):
        self.seconds += time.perf_counter() - self.began


def make_data(labels, rows, size):
    "A DataBlock: where image and labels come from, and what is done to them."
    truth = torch.tensor(labels.attributes.to_numpy(), dtype=torch.float32)
    return DataBlock(
        blocks=(ImageBlock, MultiCategoryBlock(encoded=True, vocab=list(labels.attributes))),
        get_x=lambda row: PILImage.create(io.BytesIO(labels.read(row))), get_y=lambda row: truth[row],
        splitter=IndexSplitter(range(len(rows["train"]), len(rows["train"]) + len(rows["valid"]))),
        item_tfms=[Resize(size, ResizeMethod.Squish), FlipItem()],
        batch_tfms=Normalize.from_stats([0.5] * 3, [0.5] * 3, cuda=torch.cuda.is_available()),
    )  # fmt: skip


def main():
    args = arguments(__doc__)
    labels, rows = chosen_images(args)
    began = time.perf_counter()
    torch.manual_seed(args.seed)
    block = make_data(labels, rows, args.size)
    data = block.dataloaders([*rows["train"], *rows["valid"]], bs=args.batch_size, num_workers=2)
    clock = TrainingTime()
    learner = Learner(data, make_net(args.size), BCEWithLogitsLossFlat(), partial(OptimWrapper, opt=torch.optim.Adam),
                      lr=args.lr, metrics=accuracy_multi, cbs=clock)
    with learner.no_bar(), learner.no_logging():
        learner.fit(args.epochs)
        valid_accuracy = [row[-1] for row in learner.recorder.values]  # validate, too, writes there
        test_accuracy = learner.validate(dl=data.test_dl(list(rows["test"]), with_labels=True))[1]
    trained = args.epochs * (len(rows["train"]) // args.batch_size) * args.batch_size  # fastai drops the last, smaller batch
    report(args, train_images_s=trained / clock.seconds, seconds=time.perf_counter() - began,
           test_accuracy=test_accuracy, valid_accuracy=valid_accuracy)


if __name__ == "__main__":
    main()
