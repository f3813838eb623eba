namespace Bgsnap.Engine.Disks.Graph;

/// <summary>Undoes steps, each even if another failed, and remembers the first failure.</summary>
internal sealed class Undo
{
    /// <summary>The first failure, or null.</summary>
    internal string? Problem { get; private set; }

    /// <summary>Undoes one step.</summary>
    /// <param name="step">The step.</param>
    /// <param name="done">Called if the step worked.</param>
    /// <returns>Whether it worked.</returns>
    internal bool Try(Action step, Action? done = null)
    {
        try
        {
            step();
            done?.Invoke();
            return true;
        }
        catch (Exception e)
        {
            // Catch everything: the other steps still run, and the first failure is the one reported.
            Problem ??= e.Message;
            return false;
        }
    }
}
