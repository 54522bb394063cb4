"""CRC-32C, the checksum of an OCDBT store's manifest and nodes, in NumPy: many stretches of the bytes side by side."""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["crc32c"]

POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
LANES = 2048
STRETCH = 1 << 18  # bytes at a time
_ALL = np.uint32(0xFFFFFFFF)


@functools.cache
def _table() -> np.ndarray:
    """Register after one byte, by the byte: uint32 (256,)."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(POLYNOMIAL), table >> np.uint32(1))
    return table


def crc32c(*parts: bytes) -> int:
    """CRC-32C of the bytes of `parts`, one behind the other."""
    register = _ALL
    for part in parts:
        for start in range(0, len(part), STRETCH):
            register = _after(register, part[start : start + STRETCH])
    return int(register ^ _ALL)


def _after(register: np.uint32, data: bytes) -> np.uint32:
    """The register after `data`.

    It is linear in its bytes: zeros in front of a zero register change nothing, so the bytes are cut into equal lanes,
    every lane is run from 0, and the registers are put together by what a lane of zeros does to a bit.
    """
    if len(data) < 4:
        return _plain(register, data)
    lanes = LANES if len(data) > 64 * LANES else 64
    length = -(-len(data) // lanes)
    padded = np.zeros(lanes * length, np.uint8)
    start = padded.size - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] ^= np.frombuffer(int(register).to_bytes(4, "little"), np.uint8)
    table = _table()
    # Behind the lanes of data, 32 lanes that start with one bit each and see zeros only.
    columns = np.zeros((length, lanes + 32), np.uint8)
    columns[:, :lanes] = padded.reshape(lanes, length).T
    registers = np.zeros(lanes + 32, np.uint32)
    registers[lanes:] = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for column in columns:
        registers = table[(registers ^ column) & np.uint32(0xFF)] ^ (registers >> np.uint32(8))
    return _joined(registers[:lanes], registers[lanes:])


def _joined(registers: np.ndarray, bits: np.ndarray) -> np.uint32:
    """One register for all lanes. bits: what a lane of zeros makes of each of the 32 bits."""
    shifts = []
    for byte in range(4):
        table = np.zeros(256, np.uint32)
        for bit in range(8):
            table[(np.arange(256) >> bit) & 1 == 1] ^= bits[8 * byte + bit]
        shifts.append(table.tolist())
    found = 0
    for register in registers.tolist():
        moved = shifts[0][found & 255] ^ shifts[1][found >> 8 & 255] ^ shifts[2][found >> 16 & 255]
        found = moved ^ shifts[3][found >> 24] ^ register
    return np.uint32(found)


def _plain(register: np.uint32, data: bytes) -> np.uint32:
    """The same, byte by byte, for fewer bytes than the register holds."""
    table, found = _table().tolist(), int(register)
    for byte in data:
        found = table[(found ^ byte) & 255] ^ (found >> 8)
    return np.uint32(found)
