"""The twelve levels of the real-time-chunking benchmark (arXiv 2506.07339), known by their content.

Eight of the names exist inside kinetix-env as well, as other versions of those levels: a name alone does not make a
figure comparable with a published one.
"""

LEVELS = {
    "car_launch": "42d1df84c703d2daf6e0f13db8d24f3f",
    "cartpole_thrust": "ac9a36a985b2232100366026866c11cc",
    "catapult": "e8f159cebd3bf7b4ae3a6fbd0d447e06",
    "catcher_v3": "295e345ba2ae4933f60ed68f9fb02388",
    "chain_lander": "f38e88c59d3b6bf7d0b57677e7d90049",
    "grasp_easy": "a1d41d62a35234ba2a1874d05a8a9a38",
    "h17_unicycle": "3f981f0bde771ccece0355cb9b81ec72",
    "hard_lunar_lander": "867e87f81b29bfaa2293a8956685c27a",
    "mjc_half_cheetah": "6b4ec8a866eeec640a74f947300d9c89",
    "mjc_swimmer": "3804348cb20234cf292990f6df66622a",
    "mjc_walker": "ec439be32710102d66df2be05977f4a6",
    "trampoline": "35422286b9e42502802a99c840f792e9",
}
"""Name of each level and the digest of its file (`dd.fields.file_digest`)."""
