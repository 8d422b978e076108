"""Powers as Go computes them on its usual processors, digit for digit.

The last digit of a power depends on how `exp` and `log` are computed, and it shows in text. So they are computed here the
same way: the logarithm of FreeBSD's e_log.c, and the exponential of N. Shibata's "Efficient evaluation methods of
elementary functions suitable for SIMD computation" (2010), with fused multiplications.
"""

import math

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LOG = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
_LN2_UPPER, _LN2_LOWER = 0.69314718055966295651160180568695068359375, 0.28235290563031577122588448175013436025525412068e-12
_TAYLOR = tuple(1 / math.factorial(power) for power in range(8, 0, -1))


def power(base: float, exponent: float) -> float:
    """Squaring for the whole part of the exponent, `exp` and `log` for the fraction."""
    if exponent == 0 or base == 1:
        return 1.0
    if exponent == 1:
        return base
    if base == 0 or not math.isfinite(base) or not math.isfinite(exponent):
        return _at_the_edge(base, exponent)
    if abs(exponent) == 0.5 and base > 0:
        return math.sqrt(base) if exponent > 0 else 1 / math.sqrt(base)
    fraction, whole = math.modf(abs(exponent))
    if fraction and base < 0:
        return math.nan
    if whole >= 2**63:
        return 1.0 if base == -1 else 0.0 if (abs(base) < 1) == (exponent > 0) else math.inf
    result, scale = 1.0, 0
    if fraction:
        if fraction > 0.5:
            fraction -= 1
            whole += 1
        result = _exp(fraction * _log(base))
    square, shift = math.frexp(base)
    times = int(whole)
    while times:
        if abs(shift) > 4096:  # far beyond what a double can hold
            scale += shift
            break
        if times & 1:
            result *= square
            scale += shift
        square *= square
        shift <<= 1
        if square < 0.5:
            square += square
            shift -= 1
        times >>= 1
    if exponent < 0:
        result, scale = 1 / result, -scale
    try:
        return math.ldexp(result, scale)
    except OverflowError:
        return math.copysign(math.inf, result)


def _at_the_edge(base: float, exponent: float) -> float:
    """Powers of zero, infinities and NaN, on which C and Go agree."""
    try:
        return math.pow(base, exponent)
    except ValueError:  # zero to a negative power
        odd = math.isfinite(exponent) and exponent % 2 == 1
        return math.copysign(math.inf, base) if odd else math.inf


def _log(number: float) -> float:
    """The logarithm of a positive, finite number."""
    part, doublings = math.frexp(number)
    if part < math.sqrt(2) / 2:
        part *= 2
        doublings -= 1
    f = part - 1
    k = float(doublings)
    s = f / (2 + f)
    s2 = s * s
    s4 = s2 * s2
    odd = s2 * (_LOG[0] + s4 * (_LOG[2] + s4 * (_LOG[4] + s4 * _LOG[6])))
    even = s4 * (_LOG[1] + s4 * (_LOG[3] + s4 * _LOG[5]))
    half = 0.5 * f * f
    return k * _LN2_HIGH - ((half - (s * (half + (odd + even)) + k * _LN2_LOW)) - f)


def _exp(number: float) -> float:
    """The exponential of a number that is at most 355 from zero: the half of the logarithm of the largest double."""
    doublings = round(number * math.log2(math.e))
    rest = _fused(-float(doublings), _LN2_UPPER, number)
    rest = _fused(-float(doublings), _LN2_LOWER, rest) * 0.0625
    series = _TAYLOR[0]
    for term in _TAYLOR[1:]:
        series = _fused(series, rest, term)
    rest *= series
    for _ in range(3):
        rest *= rest + 2
    return math.ldexp(_fused(rest, rest + 2, 1.0), doublings)


def _fused(one: float, other: float, addend: float) -> float:
    """`one * other + addend`, rounded once. A quotient of two integers is."""
    (a, b), (c, d), (e, f) = one.as_integer_ratio(), other.as_integer_ratio(), addend.as_integer_ratio()
    return (a * c * f + e * b * d) / (b * d * f)
