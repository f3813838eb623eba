namespace Bgsnap.Crds.Schema;

/// <summary>A rule of the Common Expression Language that the API server checks (x-kubernetes-validations).</summary>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Property, AllowMultiple = true)]
public sealed class CelAttribute(string rule, string message) : Attribute
{
    /// <summary>The rule; <c>self</c> is the value.</summary>
    public string Rule => rule;

    /// <summary>The API server's error message if the rule does not hold.</summary>
    public string Message => message;
}

/// <summary>A column of <c>kubectl get</c>; columns appear in the order of the attributes.</summary>
[AttributeUsage(AttributeTargets.Class, AllowMultiple = true)]
public sealed class PrinterColumnAttribute(string name, string type, string jsonPath, int priority = 0) : Attribute
{
    /// <summary>Heading.</summary>
    public string Name => name;

    /// <summary>OpenAPI type.</summary>
    public string Type => type;

    /// <summary>JSON path of the value.</summary>
    public string JsonPath => jsonPath;

    /// <summary>0: always shown; more: with <c>-o wide</c>.</summary>
    public int Priority => priority;
}

/// <summary>The singular and short names of a kind.</summary>
[AttributeUsage(AttributeTargets.Class)]
public sealed class ResourceNamesAttribute(string singular, string shortName) : Attribute
{
    /// <summary>Singular name.</summary>
    public string Singular => singular;

    /// <summary>Short name.</summary>
    public string ShortName => shortName;
}

/// <summary>The values that the items of a list may have.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class AllowedItemsAttribute(params string[] values) : Attribute
{
    /// <summary>The values.</summary>
    public IReadOnlyList<string> Values => values;
}

/// <summary>Maximum number of items in a list.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class MaxItemsAttribute(int count) : Attribute
{
    /// <summary>Maximum number of items.</summary>
    public int Count => count;
}

/// <summary>A list whose items are identified by one field (x-kubernetes-list-type: map).</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class ListMapKeyAttribute(string key) : Attribute
{
    /// <summary>The field.</summary>
    public string Key => key;
}

/// <summary>Length limits for the items of a list of strings.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class ItemLengthAttribute(int least, int most) : Attribute
{
    /// <summary>Minimum number of characters.</summary>
    public int Least => least;

    /// <summary>Maximum number of characters.</summary>
    public int Most => most;
}

/// <summary>A list without duplicates (x-kubernetes-list-type: set).</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class ListSetAttribute : Attribute;

/// <summary>Limits for the number and length of entries in a map of strings.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class MapLimitsAttribute(int count, int length) : Attribute
{
    /// <summary>Maximum number of entries.</summary>
    public int Count => count;

    /// <summary>Maximum number of characters in a value.</summary>
    public int Length => length;
}
