namespace Bgsnap.E2E.Tests.Harness;

/// <summary>Damages a file; done twice it is as before.</summary>
public static class Damage
{
    /// <summary>Turns one bit in the middle of the file over.</summary>
    public static void Flip(string path)
    {
        using var file = File.Open(path, FileMode.Open, FileAccess.ReadWrite);
        file.Position = file.Length / 2;
        var old = file.ReadByte();
        file.Position--;
        file.WriteByte((byte)(old ^ 1));
    }
}
