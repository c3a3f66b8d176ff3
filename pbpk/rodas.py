"""The numbers of the method RODAS, for the plain and the compiled engine of saturable kinetics.

The coefficients are those of Hairer and Wanner's Fortran code (METH = 1), checked against two independent
transcriptions: OrdinaryDiffEq.jl (Rodas4Tableau) and Numerical Recipes, 3rd ed. (StepperRoss). The tests
verify the orders that they give. :mod:`pbpk.stiff` says what they stand for.

References:
    Hairer, Wanner (1996). Solving Ordinary Differential Equations II, 2nd ed., section VI.4 (RODAS).
    https://doi.org/10.1007/978-3-642-05221-7
"""

GAMMA = 0.25
A: tuple[tuple[float, ...], ...] = (
    (),
    (1.544,),
    (0.9466785280815826, 0.2557011698983284),
    (3.314825187068521, 2.896124015972201, 0.9986419139977817),
    (1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950),
)
C: tuple[tuple[float, ...], ...] = (
    (),
    (-5.6688,),
    (-2.430093356833875, -0.2063599157091915),
    (-0.1073529058151375, -9.594562251023355, -20.47028614809616),
    (7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160),
    (8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054),
)
D2 = (10.12623508344586, -7.487995877610167, -34.80091861555747, -7.992771707568823, 1.025137723295662)
D3 = (-0.6762803392801253, 6.087714651680015, 16.43084320892478, 24.76722511418386, -6.594389125716872)

SAFETY, SHRINK, GROW = 0.9, 0.2, 6.0
"""A step is changed by SAFETY error^(-1/4), between SHRINK and GROW."""

SMALLEST = 1e-14
"""A step below this share of its segment is lost in the rounding of time."""

SOLVED, STEP_LIMIT, STEP_TOO_SMALL, TAPE_FULL = 0, 2, 3, 9
"""What the engines say of a body: 1 is kept for bodies that cannot be simulated at all, and TAPE_FULL never
leaves them."""
