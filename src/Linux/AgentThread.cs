namespace Bgsnap.Linux;

/// <summary>
/// Starts threads whose exceptions go to their owner. An exception that leaves the body of a .NET thread ends the process, and with it a
/// guest's capture or restore. So no other class creates threads (a test reads the compiled program to check that).
/// </summary>
internal static class AgentThread
{
    /// <summary>Enough for threads that keep their data on the heap.</summary>
    internal const int SmallStack = 256 * 1024;

    /// <summary>Starts a background thread.</summary>
    /// <param name="name">Its name, as <c>/proc/PID/task/TID/comm</c> shows it.</param>
    /// <param name="body">What it does.</param>
    /// <param name="failed">Receives what the body threw, on the thread itself. If this throws in turn, the exception is written to
    /// standard error and dropped.</param>
    /// <param name="stackBytes">Size of its stack; 0: the system's default.</param>
    internal static Thread Start(string name, Action body, Action<Exception> failed, int stackBytes = SmallStack)
    {
        Thread thread = new(() => Run(name, body, failed), stackBytes) { IsBackground = true, Name = name };
        thread.Start();
        return thread;
    }

    /// <summary>Calls a body on a thread of the runtime, after a time and then repeatedly.</summary>
    /// <param name="name">Its name in error output.</param>
    /// <param name="body">What it does.</param>
    /// <param name="failed">Receives what the body threw; the body is still called again.</param>
    /// <param name="first">Time until the first call.</param>
    /// <param name="then">Time between calls; <see cref="Timeout.InfiniteTimeSpan"/>: call once.</param>
    internal static Timer StartTimer(string name, Action body, Action<Exception> failed, TimeSpan first, TimeSpan then) =>
        new(_ => Run(name, body, failed), null, first, then);

    /// <summary>Runs a body and passes its exception to its owner.</summary>
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
            // Standard error is closed or full: there is no place to report this, and that must not end the process either.
        }
    }
}
