using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>Reads and writes a unix socket together with the descriptors that travel with the bytes: recvmsg(2), sendmsg(2).</summary>
internal static unsafe partial class SocketMessages
{
    private const int NoSignal = 0x4000,
        CloseOnExec = 0x40000000;
    private const int ControlBytes = 256,
        HeaderBytes = 16;

    /// <summary>Waits for bytes from one socket and sends them to another, with their descriptors.</summary>
    /// <returns>The number of bytes; 0: end of stream.</returns>
    public static int HandOn(SafeHandle from, SafeHandle to, byte[] buffer, Action<int> beforeSending)
    {
        // SAFETY: every buffer is pinned or on this stack during both calls, and the lengths are those of the buffers.
        fixed (byte* bytes = buffer)
        {
            byte* control = stackalloc byte[ControlBytes];
            Vector vector = new() { Base = bytes, Length = (nuint)buffer.Length };
            Message message = new()
            {
                Vectors = &vector,
                VectorCount = 1,
                Control = control,
                ControlLength = ControlBytes,
            };
            var got = (int)recvmsg(from, &message, CloseOnExec);
            if (got <= 0)
                return got == 0 ? 0 : throw new Win32Exception(Marshal.GetLastPInvokeError());
            try
            {
                beforeSending(got);
                for (var sent = 0; sent < got; )
                {
                    vector = new() { Base = bytes + sent, Length = (nuint)(got - sent) };
                    var put = (int)sendmsg(to, &message, NoSignal);
                    if (put <= 0)
                        throw new Win32Exception(Marshal.GetLastPInvokeError());
                    sent += put;
                    Close(message);
                    message.ControlLength = 0;
                }
            }
            finally
            {
                Close(message);
            }

            return got;
        }
    }

    /// <summary>Closes our copies of the descriptors.</summary>
    private static void Close(in Message message)
    {
        if (message.ControlLength < HeaderBytes)
            return;
        var count = (int)(*(nuint*)message.Control - HeaderBytes) / sizeof(int);
        for (var i = 0; i < count; i++)
            _ = close(((int*)(message.Control + HeaderBytes))[i]);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint recvmsg(SafeHandle socket, Message* message, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint sendmsg(SafeHandle socket, Message* message, int flags);

    [LibraryImport("libc")]
    private static partial int close(int descriptor);

    /// <summary>struct iovec.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Vector
    {
        public byte* Base;
        public nuint Length;
    }

    /// <summary>struct msghdr.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Message
    {
        public void* Name;
        public uint NameLength;
        public Vector* Vectors;
        public nuint VectorCount;
        public byte* Control;
        public nuint ControlLength;
        public int Flags;
    }
}
