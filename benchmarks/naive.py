"""The usual way: the study's network with a Dataset, transforms and a DataLoader, as a good tutorial would write it.

    python benchmarks/naive.py --root "$CELEBA_ROOT" --json naive.json

`celeba-nb bench` runs this file beside the package. It shares only the labels and the choice of images with it.
"""
import io
import time

import torch
from common import arguments, chosen_images, report
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Faces(Dataset):
    "Images and their 40 labels."

    def __init__(self, labels, rows, transform):
        self.labels, self.rows, self.transform = labels, rows, transform
        self.truth = torch.tensor(labels.attributes.to_numpy()[rows], dtype=torch.float32)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        image = Image.open(io.BytesIO(self.labels.read(self.rows[i]))).convert("RGB")
        return self.transform(image), self.truth[i]


def make_loaders(labels, rows, size, batch_size):
    "A loader a split; only the training images are shuffled and flipped."
    plain = [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    flipped = [plain[0], transforms.RandomHorizontalFlip(), *plain[1:]]
    return {split: DataLoader(Faces(labels, chosen, transforms.Compose(flipped if split == "train" else plain)),
                              batch_size, shuffle=split == "train", num_workers=2)
            for split, chosen in rows.items()}


def make_net(size):
    "The study's network."
    def block(inputs, outputs):
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*block(3, 32), *block(32, 64), *block(64, 128), nn.Flatten(),
                         nn.Linear(128 * (size // 8) ** 2, 512), nn.ReLU(), nn.Linear(512, 40))


def train_epoch(net, loader, criterion, optimizer, device):
    "One pass over the training images."
    net.train()
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()


def evaluate(net, loader, device):
    "The share of right answers."
    net.eval()
    right = total = 0
    with torch.no_grad():
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            right += ((net(x) > 0) == (y > 0.5)).sum().item()
            total += y.numel()
    return right / total


def main():
    args = arguments(__doc__)
    labels, rows = chosen_images(args)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    began = time.perf_counter()
    torch.manual_seed(args.seed)
    loaders = make_loaders(labels, rows, args.size, args.batch_size)
    net = make_net(args.size).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    criterion = nn.BCEWithLogitsLoss()
    training, valid_accuracy = 0.0, []
    for _ in range(args.epochs):
        before = time.perf_counter()
        train_epoch(net, loaders["train"], criterion, optimizer, device)
        training += time.perf_counter() - before
        valid_accuracy.append(evaluate(net, loaders["valid"], device))
    epochs_s = time.perf_counter() - began
    test_accuracy = evaluate(net, loaders["test"], device)
    report(args, train_images_s=args.epochs * len(rows["train"]) / training, seconds=time.perf_counter() - began,
           epochs_s=epochs_s, test_accuracy=test_accuracy, valid_accuracy=valid_accuracy)


if __name__ == "__main__":
    main()
