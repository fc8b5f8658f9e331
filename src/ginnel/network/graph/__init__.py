"""
A network as a drawing: `scene` says what there is to be seen, `picture` where it goes, `svg`, `dot` and `mermaid` write it down.

    scene     nodes with their roles, links with their kinds, regions or groups: what a person asks of a drawing, no coordinates
    metrics   how wide a text is; boxes that must not overlap
    drawing   shapes on a plane
    cards     up to a dozen nodes as cards with their LANs: a row, a circle, a star
    wheel     more of them as dots on a circle, labels outwards; a full mesh as a band, not as 4,950 lines
    picture   regions beside one another, the title, the legend

Everything is computed from the network alone: the same network gives the same bytes.
"""
