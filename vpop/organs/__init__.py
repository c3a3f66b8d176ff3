"""The organs of people, one function an organ: equations of the literature, newborn to old age.

===============  ==========================================================================================
`curves`         numbers that run with age between knots; the joins between children and adults
`closing`        parts made to sum to their whole
`composition`    fat, adipose tissue, bone mineral, bone, muscle, and what is left
`viscera`        brain, heart, lung, liver, kidney, spleen, pancreas, gut, skin, gonads
`height`         the viscera by sex and height alone: the other layer
`blood`          blood and its haematocrit
`circulation`    cardiac output, creatinine, filtration, and who gets how much of the flow
`spread`         how far real people lie from these means, and together
===============  ==========================================================================================

Published equations are read as medians. [ours] marks a join or fit of our own.
"""
