namespace Bgsnap.Qemu.Qmp;

/// <summary>
/// Finds where JSON objects end in a stream of bytes that arrives in pieces, whatever their layout: with <c>pretty=on</c> QEMU's monitor
/// spreads one message over many lines. Examines each byte once.
/// </summary>
internal sealed class JsonObjectScanner
{
    private int _depth;
    private bool _inString;
    private bool _escaped;

    /// <summary>An object has begun but not ended.</summary>
    internal bool IsInside => _depth > 0;

    /// <summary>Examines the next bytes of the stream.</summary>
    /// <param name="next">The bytes that follow those of the last call.</param>
    /// <param name="length">How many bytes were examined: up to the object's end, or all.</param>
    /// <returns>Whether an object ends at <paramref name="length"/>.</returns>
    /// <exception cref="FormatException">There is something other than an object between two objects.</exception>
    internal bool TryFindEnd(ReadOnlySpan<byte> next, out int length)
    {
        for (length = 0; length < next.Length; )
        {
            if (Take(next[length++]))
                return true;
        }
        return false;
    }

    private bool Take(byte b)
    {
        if (_escaped)
            _escaped = false;
        else if (_inString)
            (_inString, _escaped) = (b != '"', b == '\\');
        else if (b is (byte)'{' or (byte)'[' && (_depth > 0 || b == '{'))
            _depth++;
        else if (_depth == 0)
            return b is (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n' ? false : throw new FormatException("not a JSON object");
        else if (b is (byte)'}' or (byte)']')
            return --_depth == 0;
        else
            _inString = b == '"';
        return false;
    }
}
