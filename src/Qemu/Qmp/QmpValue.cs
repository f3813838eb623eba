using System.Text.Json;

namespace Bgsnap.Qemu.Qmp;

/// <summary>
/// A piece of what QEMU answered or reported. A QEMU belongs to a tenant and may send anything: every read here either returns the
/// requested value or throws a <see cref="QmpException"/> with the command and the member, so that code that reads an answer can fail in no
/// other way.
/// </summary>
public readonly struct QmpValue
{
    private const int Excerpt = 100;
    private readonly JsonElement _json;
    private readonly string _command;
    private readonly string _name;

    internal QmpValue(JsonElement json, string command, string name) => (_json, _command, _name) = (json, command, name);

    /// <summary>The kind of value; Undefined: no value at all.</summary>
    public JsonValueKind ValueKind => _json.ValueKind;

    /// <summary>A required member.</summary>
    /// <exception cref="QmpException">The member is missing, or this is not an object.</exception>
    public QmpValue GetProperty(string name) => TryGetProperty(name, out QmpValue value) ? value : throw Odd($"has no \"{name}\"");

    /// <summary>An optional member; null counts as missing.</summary>
    /// <exception cref="QmpException">This is not an object.</exception>
    public bool TryGetProperty(string name, out QmpValue value)
    {
        bool there = Expect(JsonValueKind.Object).TryGetProperty(name, out JsonElement member) && member.ValueKind != JsonValueKind.Null;
        value = there ? new QmpValue(member, _command, name) : default;
        return there;
    }

    /// <summary>A string.</summary>
    /// <exception cref="QmpException">It is something else.</exception>
    public string GetString() => Expect(JsonValueKind.String).GetString()!;

    /// <summary>True or false.</summary>
    /// <inheritdoc cref="GetString" path="/exception"/>
    public bool GetBoolean() =>
        ValueKind is JsonValueKind.True or JsonValueKind.False ? _json.GetBoolean() : throw Odd("is neither true nor false");

    /// <summary>A whole number of 32 bits.</summary>
    /// <inheritdoc cref="GetString" path="/exception"/>
    public int GetInt32() =>
        Expect(JsonValueKind.Number).TryGetInt32(out int value) ? value : throw Odd("is not a whole number of 32 bits");

    /// <summary>A whole number of 64 bits.</summary>
    /// <inheritdoc cref="GetString" path="/exception"/>
    public long GetInt64() =>
        Expect(JsonValueKind.Number).TryGetInt64(out long value) ? value : throw Odd("is not a whole number of 64 bits");

    /// <summary>A whole number of 64 bits that is not negative.</summary>
    /// <inheritdoc cref="GetString" path="/exception"/>
    public ulong GetUInt64() =>
        Expect(JsonValueKind.Number).TryGetUInt64(out ulong value) ? value : throw Odd("is not a whole number of 64 bits, 0 or more");

    /// <summary>A version: <c>major</c>, <c>minor</c> and <c>micro</c>.</summary>
    /// <exception cref="QmpException">It is something else.</exception>
    public Version GetVersion()
    {
        int major = GetProperty("major").GetInt32(),
            minor = GetProperty("minor").GetInt32(),
            micro = GetProperty("micro").GetInt32();
        return major >= 0 && minor >= 0 && micro >= 0 ? new Version(major, minor, micro) : throw Odd("is not a version");
    }

    /// <summary>Number of elements.</summary>
    /// <exception cref="QmpException">This is not a list.</exception>
    public int GetArrayLength() => Expect(JsonValueKind.Array).GetArrayLength();

    /// <summary>The elements.</summary>
    /// <exception cref="QmpException">This is not a list.</exception>
    public IEnumerable<QmpValue> EnumerateArray() => Elements(Expect(JsonValueKind.Array), _command, _name);

    /// <summary>A copy of the value that outlives its answer.</summary>
    public QmpValue Clone() => new(_json.Clone(), _command, _name);

    /// <summary>The value's JSON.</summary>
    public override string ToString() => ValueKind == JsonValueKind.Undefined ? "" : _json.GetRawText();

    private static IEnumerable<QmpValue> Elements(JsonElement list, string command, string name)
    {
        foreach (JsonElement element in list.EnumerateArray())
            yield return new QmpValue(element, command, name);
    }

    private JsonElement Expect(JsonValueKind kind) => ValueKind == kind ? _json : throw Odd($"is not of the kind {kind}");

    private QmpException Odd(string what)
    {
        string json = ToString();
        if (json.Length > Excerpt)
            json = json[..Excerpt] + "…";
        return new QmpException($"{_command}: QEMU gave an invalid answer: \"{_name}\" {what}: {json}") { IsOdd = true };
    }
}
