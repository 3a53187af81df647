"""Devices: speaker clusters, LED boards, sensors and gateways, as a vendor would build them from the wire contract.

An independent second implementation: its only import of ours is `schemas`. The core (`device`, `playback`, `trust`,
`media`, `journal`, `relay_reading`, `faults`, `clock`, …) computes; the shells (`connector`, `downloader`, `player`,
`relay_tuner`, `relay_stream`, `performer`, `runner`) touch network, disk, decoder and clock.

What is virtual is said where it is: there is no sound card and no screen (`player`), no thermometer (`physics`), no FM
receiver (`relay_stream`), and one process decodes a file once for all devices that hold the same verified bytes
(`player`), and a stream once for all that take it (`relay_stream`).
"""
