namespace Bgsnap.Storm;

/// <summary>
/// Random choices of one round: the same seed and number give the same choices on every machine and with any number of lanes.
/// </summary>
internal sealed class Dice
{
    private ulong _state;

    public Dice(ulong seed, int round) => _state = unchecked(seed * 0x9e3779b97f4a7c15 + (ulong)round * 0xbf58476d1ce4e5b9 + 1);

    /// <summary>From 0 up to but excluding 1.</summary>
    public double Share() => (Next() >> 11) * (1.0 / (1ul << 53));

    public bool Chance(double share) => Share() < share;

    /// <summary>From the least to the most, both included.</summary>
    public int Between(int least, int most) => least + (int)(Share() * (most - least + 1));

    public T Of<T>(params ReadOnlySpan<T> all) => all[Between(0, all.Length - 1)];

    // SplitMix64.
    private ulong Next()
    {
        var x = _state = unchecked(_state + 0x9e3779b97f4a7c15);
        x = unchecked((x ^ (x >> 30)) * 0xbf58476d1ce4e5b9);
        x = unchecked((x ^ (x >> 27)) * 0x94d049bb133111eb);
        return x ^ (x >> 31);
    }
}
