namespace Bgsnap.Fuzz.Engine;

/// <summary>SplitMix64: the same numbers for a seed on every machine and in every version of .NET.</summary>
internal sealed class Prng(ulong seed)
{
    private ulong _state = seed;

    internal ulong Next()
    {
        ulong z = _state += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }

    /// <summary>A number from 0 to below <paramref name="end"/>, which is above 0.</summary>
    internal int Below(int end) => (int)(Next() % (ulong)end);

    /// <summary>True once in <paramref name="n"/> times.</summary>
    internal bool OneIn(int n) => Below(n) == 0;

    internal T Pick<T>(IReadOnlyList<T> list) => list[Below(list.Count)];
}
