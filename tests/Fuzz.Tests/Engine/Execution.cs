using System.Diagnostics;

namespace Bgsnap.Fuzz.Engine;

/// <summary>Why an input is a finding.</summary>
/// <param name="Kind">Exception, memory, promise or loop.</param>
/// <param name="Message">What happened.</param>
internal sealed record Finding(string Kind, string Message);

/// <summary>Runs a reader on one input, and says what promise it broke.</summary>
internal sealed class Execution(FuzzTarget target)
{
    /// <summary>Runs it. Null: the reader keeps its promises.</summary>
    internal Finding? Run(byte[] input)
    {
        Finding? found = Once(input);
        // What is made once (types, tables) is charged to the first input that needs it; the second time it is there.
        return found is { Kind: "memory" } ? Once(input) : found;
    }

    private Finding? Once(byte[] input)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        try
        {
            target.Read(input);
        }
        catch (BrokenPromiseException e)
        {
            return new Finding("promise", e.Message);
        }
        catch (Exception e) when (!target.IsRefusal(e))
        {
            return new Finding("exception", Describe(e));
        }
        catch (Exception e) when (e.Message.Length > (64 << 10) + (8 * input.Length))
        {
            return new Finding("memory", $"a message of {e.Message.Length} characters for {input.Length} bytes");
        }
        catch (Exception e) when (target.IsRefusal(e))
        {
            // As documented.
        }
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before,
            limit = target.AllocationLimit(input.Length);
        return allocated > limit
            ? new Finding("memory", $"{allocated} bytes were allocated for {input.Length}; at most {limit} are allowed")
            : null;
    }

    private static string Describe(Exception e)
    {
        string[] frames = [.. new StackTrace(e).ToString().Split('\n').Select(f => f.Trim()).Where(f => f.Length > 0).Take(6)];
        return $"{e.GetType().Name}: {e.Message}\n  {string.Join("\n  ", frames)}";
    }
}
