namespace Bgsnap.NodeAgent.Linux;

/// <summary>
/// Starts threads whose exceptions go to their owner. An exception that leaves the body of a .NET thread ends the process, and with it a
/// guest's capture or restore; so no other class makes threads (a test reads the compiled program for that).
/// </summary>
internal static class AgentThread
{
    /// <summary>Enough for threads that keep their data on the heap.</summary>
    internal const int SmallStack = 256 * 1024;

    /// <summary>Starts a background thread.</summary>
    /// <param name="name">Its name, as <c>/proc/PID/task/TID/comm</c> shows it.</param>
    /// <param name="body">What it does.</param>
    /// <param name="failed">Gets what the body threw, on the thread itself. What this throws in turn is written to standard error and goes
    /// no further.</param>
    /// <param name="stackBytes">Size of its stack; 0: the system's default.</param>
    internal static Thread Start(string name, Action body, Action<Exception> failed, int stackBytes = SmallStack)
    {
        Thread thread = new(() => Run(name, body, failed), stackBytes) { IsBackground = true, Name = name };
        thread.Start();
        return thread;
    }

    /// <summary>Calls a body on a thread of the runtime, after a time and then again and again.</summary>
    /// <param name="name">What it is called in a complaint.</param>
    /// <param name="body">What it does.</param>
    /// <param name="failed">Gets what the body threw; it is called again all the same.</param>
    /// <param name="first">When it is called first.</param>
    /// <param name="then">How long after each call; <see cref="Timeout.InfiniteTimeSpan"/>: once.</param>
    internal static Timer StartTimer(string name, Action body, Action<Exception> failed, TimeSpan first, TimeSpan then) =>
        new(_ => Run(name, body, failed), null, first, then);

    /// <summary>Runs a body, and hands what it throws to its owner.</summary>
    internal static void Run(string name, Action body, Action<Exception> failed)
    {
        try
        {
            body();
        }
        catch (Exception e)
        {
            try
            {
                failed(e);
            }
            catch (Exception again)
            {
                Complain($"bgsnap-agent: thread {name} failed: {e.Message}; its owner could not be informed: {again.Message}");
            }
        }
    }

    private static void Complain(string words)
    {
        try
        {
            Console.Error.WriteLine(words);
        }
        catch (Exception)
        {
            // Standard error is closed or full: there is nobody to complain to, and that must not end the process either.
        }
    }
}
