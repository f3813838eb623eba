using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using SharpFuzz.Common;

namespace Bgsnap.Fuzz.Engine;

/// <summary>Which edges of the instrumented program an input took, as AFL counts them: a map of 64 KiB, hits in eight classes.</summary>
/// <remarks>There is one map for the process: instrumented code writes to it from every thread, finalizers too.</remarks>
internal sealed unsafe class Coverage
{
    private const int Size = 1 << 16;
    private static readonly byte* _map = (byte*)NativeMemory.AllocZeroed(Size);
    private readonly byte[] _seen = new byte[Size];

    // Before anything of the agent runs.
#pragma warning disable CA2255 // this is a program, and this its beginning
    [ModuleInitializer]
    internal static void Begin() => Trace.SharedMem = _map;
#pragma warning restore CA2255

    /// <summary>Edges and classes of hits that have been seen.</summary>
    internal int Count { get; private set; }

    /// <summary>Forgets what was hit; call before an input.</summary>
    internal static void Clear()
    {
        new Span<byte>(_map, Size).Clear();
        Trace.PrevLocation = 0;
    }

    /// <summary>Whether the input took an edge, or took one more often, than every one before.</summary>
    internal bool IsNew()
    {
        ReadOnlySpan<ulong> words = new(_map, Size / sizeof(ulong));
        bool isNew = false;
        for (int w = 0; w < words.Length; w++)
        {
            if (words[w] == 0)
                continue;
            for (int i = w * sizeof(ulong); i < (w + 1) * sizeof(ulong); i++)
            {
                if (_map[i] == 0)
                    continue;
                byte kind = Class(_map[i]);
                if ((_seen[i] & kind) != 0)
                    continue;
                _seen[i] |= kind;
                Count++;
                isNew = true;
            }
        }
        return isNew;
    }

    /// <summary>Whether anything is counted: the agent's assembly is instrumented.</summary>
    internal static bool IsOn => new ReadOnlySpan<byte>(_map, Size).ContainsAnyExcept((byte)0);

    private static byte Class(byte hits) =>
        hits switch
        {
            1 => 1,
            2 => 2,
            3 => 4,
            < 8 => 8,
            < 16 => 16,
            < 32 => 32,
            < 128 => 64,
            _ => 128,
        };
}
