namespace Bgsnap.Engine.Capture;

/// <summary>What belongs to a capture: the last that was added is disposed first, and each even when another throws.</summary>
internal sealed class Owned : IDisposable
{
    private readonly Stack<IDisposable> _all = new();

    /// <summary>Takes over <paramref name="one"/>.</summary>
    internal T Add<T>(T one)
        where T : IDisposable
    {
        _all.Push(one);
        return one;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_all.TryPop(out IDisposable? last))
            return;
        try
        {
            last.Dispose();
        }
        finally
        {
            Dispose();
        }
    }
}
