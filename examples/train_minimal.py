"""Trains a ResNet-18 on a converted set; run it again to resume from the last checkpoint.

python examples/train_minimal.py photos-256
"""

import os
import sys

import torch
from torchvision.models import resnet18  # or any other model

import wdsremux

EPOCHS, SAVE_EVERY, CHECKPOINT = 3, 100, "checkpoint.pt"

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
loader = wdsremux.DataLoader(sys.argv[1], batch_size=64, size=128)
model = resnet18(num_classes=loader.num_classes).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
criterion = torch.nn.CrossEntropyLoss()

if os.path.exists(CHECKPOINT):
    saved = torch.load(CHECKPOINT, map_location=device, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    loader.load_state_dict(saved["loader"])


def save():
    parts = {"model": model, "optimizer": optimizer, "loader": loader}
    state = {name: part.state_dict() for name, part in parts.items()}
    torch.save(state, f"{CHECKPOINT}.partial")
    os.replace(f"{CHECKPOINT}.partial", CHECKPOINT)  # never half a file


for epoch in range(loader.epoch, EPOCHS):
    for step, (images, labels) in enumerate(loader, start=1):
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % SAVE_EVERY == 0:
            save()
            print(f"epoch {epoch}, step {step}: loss {loss.item():.3f}")
    save()
